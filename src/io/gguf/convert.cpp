// Parameters and configuration to GGUF's tensors and keys: llama.cpp's conversion/base.py and conversion/llama.py.
#include "io/gguf/convert.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/checked.h"
#include "core/thread_pool.h"
#include "io/decode.h"
#include "io/gguf/metadata_write.h"
#include "io/gguf/names.h"
#include "io/gguf/quantise.h"
#include "io/name_pattern.h"

namespace plumb {
namespace {

// What makes up one tensor of the file: one weight, a stack of experts, or weights that are joined by rows.
struct Source {
  std::vector<WeightPtr> parts;  // by expert, or from the first row to the last, in the file's form
  std::optional<int> rows;       // of the last part, where parameters are joined by rows
  bool is_stack = false;         // of experts
};

struct Plan {
  std::vector<std::string> order;  // tensors, as their first parameter comes
  std::map<std::string, Source> sources;
};

Error unsupported(const std::string& what) {
  return {ErrorCode::kUnsupported, what};
}

// Those from the beginning before those from the end.
std::pair<bool, int> order_of(int rows) {
  return {rows < 0, rows};
}

Status join(Source& source, const NamedWeight& parameter, const GgufPlace& place) {
  const Shape& shape = place.stored->shape();
  const bool is_first = source.parts.empty();
  const bool is_next =
      place.is_part ||
      (is_first ? *place.rows == 0 : source.rows && order_of(*source.rows) < order_of(*place.rows));
  const bool fits = is_first ? shape.size() >= 2
                             : shape.size() == 2 && source.parts.front()->shape().size() == 2 &&
                                   source.parts.front()->shape()[1] == shape[1];
  if (!is_next || !fits) {
    return unsupported("the tensor \"" + parameter.name + "\" of shape " +
                       to_string(parameter.weight->shape()) + " does not continue the rows of \"" +
                       place.tensor + "\"");
  }
  source.rows = place.rows;
  source.parts.push_back(place.stored);
  return {};
}

Status stack(Source& source, const NamedWeight& parameter, const GgufPlace& place) {
  const auto expert = static_cast<std::size_t>(place.expert.value_or(0));
  if (expert != source.parts.size() || (!place.expert && !source.parts.empty())) {
    return unsupported("the tensor \"" + parameter.name + "\" is out of order in the stack \"" +
                       place.tensor + "\"");
  }
  if (!source.parts.empty() && source.parts.front()->shape() != place.stored->shape()) {
    return unsupported("the tensor \"" + parameter.name + "\" has the shape " +
                       to_string(place.stored->shape()) + ", the others of its stack " +
                       to_string(source.parts.front()->shape()));
  }
  source.is_stack = place.expert.has_value();
  source.parts.push_back(place.stored);
  return {};
}

Result<Plan> plan_of(const GgufConversion& conversion) {
  Plan plan;
  for (const NamedWeight& parameter : conversion.parameters) {
    const auto places = gguf_places(conversion.conventions, conversion.config, parameter.name,
                                    parameter.weight);
    if (!places.ok()) {
      return Error{places.error().code,
                   "the tensor \"" + parameter.name + "\": " + places.error().message};
    }
    if (places.value().empty()) {
      return unsupported("the tensor \"" + parameter.name +
                         "\" has no name in GGUF files of the architecture \"" +
                         std::string(conversion.conventions.architecture) + "\"");
    }
    for (const GgufPlace& place : places.value()) {
      auto [entry, is_new] = plan.sources.try_emplace(place.tensor);
      if (is_new) plan.order.push_back(place.tensor);
      PLUMB_TRY_STATUS(place.is_part || place.rows ? join(entry->second, parameter, place)
                                                   : stack(entry->second, parameter, place));
    }
  }
  return plan;
}

class Encoder {
 public:
  Encoder(std::string name, std::vector<WeightPtr> parts, DType dtype,
          std::shared_ptr<ThreadPool> pool)
      : name_(std::move(name)), parts_(std::move(parts)), dtype_(dtype), pool_(std::move(pool)) {
    for (const WeightPtr& part : parts_) {
      begins_.push_back(rows_);
      rows_ += part->rows();
    }
  }

  Status operator()(std::int64_t first, std::int64_t count, std::span<std::byte> out) const {
    const std::size_t row_bytes = out.size() / static_cast<std::size_t>(count);
    Status status;
    std::mutex mutex;
    pool_->for_rows(count, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        Status encoded =
            encode(first + i, out.subspan(static_cast<std::size_t>(i) * row_bytes, row_bytes));
        if (encoded.ok()) continue;
        const std::lock_guard lock(mutex);
        if (status.ok()) status = std::move(encoded);
        return;
      }
    });
    return status;
  }

 private:
  Status encode(std::int64_t row, std::span<std::byte> out) const {
    const auto next = std::upper_bound(begins_.begin(), begins_.end(), row);
    const auto index = static_cast<std::size_t>(next - begins_.begin()) - 1;
    std::vector<double> values(static_cast<std::size_t>(parts_[index]->row_length()));
    parts_[index]->read_row(row - begins_[index], values);
    std::vector<float> narrowed(values.begin(), values.end());
    for (const float value : narrowed)
      PLUMB_TRY_STATUS(check(value));
    quantise_row(dtype_, narrowed, out);
    return {};
  }

  Status check(float value) const {
    constexpr float kLargestHalf = 65504;
    constexpr float kLargestWhole = 1 << 24;  // that float32 tells from its neighbours
    const bool fits = std::isfinite(value) &&
                      (dtype_ != DType::kF16 || std::fabs(value) <= kLargestHalf) &&
                      (dtype_ != DType::kI32 || (std::fabs(value) <= kLargestWhole &&
                                                 value == std::trunc(value)));
    if (fits) return {};
    return Error{ErrorCode::kInvalidArgument, "the tensor \"" + name_ + "\" holds " +
                                                  std::to_string(value) + ", which " +
                                                  std::string(to_string(dtype_)) + " cannot store"};
  }

  std::string name_;
  std::vector<WeightPtr> parts_;
  std::vector<std::int64_t> begins_;  // first row of each part
  std::int64_t rows_ = 0;
  DType dtype_;
  std::shared_ptr<ThreadPool> pool_;
};

// Where a tensor stands among those of its kind, for the types that depend on it. llama.cpp counts them in the order of the
// file, but goes by the layer for ffn_down where there are experts (llama-quant.cpp, layer_info).
class Positions {
 public:
  Positions(const GgufConversion& conversion, const std::vector<std::string>& names)
      : experts_(conversion.config.integer("num_experts", 0)),
        layers_(conversion.config.num_hidden_layers) {
    for (const std::string& name : names)
      ++count_[kind_of(name)];
  }

  std::int64_t experts() const { return experts_; }

  // The tensor's position, and of how many.
  std::pair<std::int64_t, std::int64_t> next(const std::string& name) {
    const std::string kind = kind_of(name);
    const std::int64_t position = next_[kind]++;
    const auto layer = match_pattern("blk.{i}.*", name);
    if (kind != "ffn_down" || experts_ < 2 || !layer) return {position, count_[kind]};
    std::int64_t number = 0;
    std::from_chars(layer->layer.data(), layer->layer.data() + layer->layer.size(), number);
    return {number, layers_};
  }

 private:
  static std::string kind_of(const std::string& name) {
    for (const char* kind : {"attn_v.weight", "attn_qkv.weight", "attn_kv_b.weight"}) {
      if (name.find(kind) != std::string::npos) return "values";
    }
    return name.find("ffn_down") != std::string::npos ? "ffn_down" : "";
  }

  std::int64_t experts_;
  std::int64_t layers_;
  std::map<std::string, std::int64_t> count_;
  std::map<std::string, std::int64_t> next_;
};

Shape shape_of(const Source& source) {
  Shape shape = source.parts.front()->shape();
  if (source.is_stack) {
    shape.insert(shape.begin(), static_cast<std::int64_t>(source.parts.size()));
  } else if (source.parts.size() > 1) {
    shape[0] = 0;
    for (const WeightPtr& part : source.parts)
      shape[0] += part->rows();
  }
  return shape;
}

// A key that such a file cannot say must have the value that it implies.
Status check_constants(const GgufConversion& conversion) {
  const auto implied =
      nlohmann::json::parse(conversion.conventions.constants, nullptr, /*allow_exceptions=*/false);
  for (const auto& [key, value] : implied.items()) {
    if (value.is_boolean() && conversion.config.flag(key, value) != value.get<bool>()) {
      return unsupported(conversion.config.where() + ": \"" + key + "\" is " +
                         (value.get<bool>() ? "false" : "true") +
                         ", which GGUF files of the architecture \"" +
                         std::string(conversion.conventions.architecture) + "\" cannot say");
    }
  }
  return {};
}

}  // namespace

Status write_gguf(const GgufConversion& conversion, const std::filesystem::path& path,
                  const WriteProgress& progress) {
  if (conversion.conventions.architecture.empty()) {
    return unsupported("models of type \"" + conversion.config.model_type() +
                       "\" have no GGUF form");
  }
  if (conversion.conventions.expressible != nullptr) {
    PLUMB_TRY_STATUS(conversion.conventions.expressible(conversion.config));
  }
  PLUMB_TRY_STATUS(check_constants(conversion));
  PLUMB_TRY(Plan plan, plan_of(conversion));
  GgufWriter writer;
  PLUMB_TRY_STATUS(write_metadata(conversion, writer));
  if (const auto divisors = rope_tables(conversion.config); !divisors.empty()) {
    for (const RopeTable& table : divisors) {
      writer.add_tensor(
          {table.name,
           DType::kF32,
           {static_cast<std::int64_t>(table.values.size())},
           [values = table.values](std::int64_t, std::int64_t, std::span<std::byte> out) {
             quantise_row(DType::kF32, values, out);
             return Status();
           }});
    }
  }
  const auto pool = std::make_shared<ThreadPool>(conversion.threads);
  Positions positions(conversion, plan.order);
  for (const std::string& name : plan.order) {
    Source& source = plan.sources.at(name);
    const Shape shape = shape_of(source);
    const auto [position, count] = positions.next(name);
    const GgufMixture mixture{conversion.type, count, positions.experts(),
                              !plan.sources.contains("output.weight")};
    const DType dtype = gguf_tensor_type(mixture, name, shape, position);
    writer.add_tensor({name, dtype, shape, Encoder(name, std::move(source.parts), dtype, pool)});
  }
  return writer.write(path, progress);
}

}  // namespace plumb
