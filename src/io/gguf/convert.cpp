// Parameters and configuration to GGUF's tensors and keys: llama.cpp's conversion/base.py and conversion/llama.py.
#include "io/gguf/convert.h"

#include <cmath>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "core/checked.h"
#include "core/thread_pool.h"
#include "io/decode.h"
#include "io/gguf/metadata_write.h"
#include "io/gguf/names.h"
#include "io/gguf/quantise.h"

namespace plumb {
namespace {

// The parameters that make up one tensor of the file: one, or a stack of experts.
struct Source {
  std::vector<WeightPtr> parts;  // by expert, or from the first row to the last
  std::optional<int> rows;       // of the last part, where the parts are joined by rows
  bool rotary_pairs = false;
  bool plus_one = false;
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
  const Shape& shape = parameter.weight->shape();
  const bool is_first = source.parts.empty();
  const bool is_next =
      is_first ? *place.rows == 0 : source.rows && order_of(*source.rows) < order_of(*place.rows);
  if (!is_next || shape.size() != 2 ||
      (!is_first && source.parts.front()->shape()[1] != shape[1])) {
    return unsupported("the tensor \"" + parameter.name + "\" of shape " + to_string(shape) +
                       " does not continue the rows of \"" + place.tensor + "\"");
  }
  source.rows = place.rows;
  source.parts.push_back(parameter.weight);
  return {};
}

Result<Plan> plan_of(const GgufConversion& conversion) {
  Plan plan;
  for (const NamedWeight& parameter : conversion.parameters) {
    const auto place = gguf_place(conversion.conventions, parameter.name);
    if (!place) {
      return unsupported("the tensor \"" + parameter.name +
                         "\" has no name in GGUF files of the architecture \"" +
                         std::string(conversion.conventions.architecture) + "\"");
    }
    auto [entry, is_new] = plan.sources.try_emplace(place->tensor);
    if (is_new) plan.order.push_back(place->tensor);
    Source& source = entry->second;
    source.rotary_pairs = place->rotary_pairs;
    source.plus_one = place->plus_one;
    if (place->rows) {
      PLUMB_TRY_STATUS(join(source, parameter, *place));
      continue;
    }
    const auto expert = static_cast<std::size_t>(place->expert.value_or(0));
    if (expert != source.parts.size() || (!place->expert && !is_new)) {
      return unsupported("the tensor \"" + parameter.name + "\" is out of order in the stack \"" +
                         place->tensor + "\"");
    }
    if (!source.parts.empty() && source.parts.front()->shape() != parameter.weight->shape()) {
      return unsupported("the tensor \"" + parameter.name + "\" has the shape " +
                         to_string(parameter.weight->shape()) + ", the others of its stack " +
                         to_string(source.parts.front()->shape()));
    }
    source.parts.push_back(parameter.weight);
  }
  return plan;
}

// The parameter's row (element of a vector) that is written as row `row` of heads of `head`.
std::int64_t paired(std::int64_t row, std::int64_t head) {
  const std::int64_t j = row % head;
  return row - j + (j % 2) * (head / 2) + j / 2;
}

class Encoder {
 public:
  Encoder(std::string name, Source source, DType dtype, std::int64_t head,
          std::shared_ptr<ThreadPool> pool)
      : name_(std::move(name)),
        source_(std::move(source)),
        dtype_(dtype),
        head_(head),
        pool_(std::move(pool)) {}

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
    const Weight& first = *source_.parts.front();
    const auto [index, begin] = part_of(row);
    const Weight& part = *source_.parts[index];
    const bool is_vector = first.shape().size() < 2;
    std::int64_t from = row - begin;
    if (source_.rotary_pairs && !is_vector) from = paired(from, head_);
    std::vector<double> values(static_cast<std::size_t>(first.row_length()));
    part.read_row(from, values);
    std::vector<float> narrowed(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::size_t at =
          source_.rotary_pairs && is_vector
              ? static_cast<std::size_t>(paired(static_cast<std::int64_t>(i), head_))
              : i;
      narrowed[i] = static_cast<float>(values[at] + (source_.plus_one ? 1 : 0));
      PLUMB_TRY_STATUS(check(narrowed[i]));
    }
    quantise_row(dtype_, narrowed, out);
    return {};
  }

  // The part that holds a row, and the part's first row.
  std::pair<std::size_t, std::int64_t> part_of(std::int64_t row) const {
    if (!source_.rows) {
      const std::int64_t rows = source_.parts.front()->rows();
      return {static_cast<std::size_t>(row / rows), row - row % rows};
    }
    std::size_t index = 0;
    std::int64_t begin = 0;
    while (row - begin >= source_.parts[index]->rows())
      begin += source_.parts[index++]->rows();
    return {index, begin};
  }

  Status check(float value) const {
    constexpr float kLargestHalf = 65504;
    const bool fits =
        std::isfinite(value) && (dtype_ != DType::kF16 || std::fabs(value) <= kLargestHalf);
    if (fits) return {};
    return Error{ErrorCode::kInvalidArgument, "the tensor \"" + name_ + "\" holds " +
                                                  std::to_string(value) + ", which " +
                                                  std::string(to_string(dtype_)) + " cannot store"};
  }

  std::string name_;
  Source source_;
  DType dtype_;
  std::int64_t head_;
  std::shared_ptr<ThreadPool> pool_;
};

// Tensors whose type depends on their place among the layers, by the part of the name that tells them.
std::string kind_of(const std::string& name) {
  for (const char* kind : {"attn_v.weight", "attn_qkv.weight", "attn_kv_b.weight"}) {
    if (name.find(kind) != std::string::npos) return "values";
  }
  return name.find("ffn_down") != std::string::npos ? "ffn_down" : "";
}

Shape stacked_shape(const Source& source, bool is_stack) {
  Shape shape = source.parts.front()->shape();
  if (is_stack) shape.insert(shape.begin(), static_cast<std::int64_t>(source.parts.size()));
  if (source.rows) {
    shape[0] = 0;
    for (const WeightPtr& part : source.parts)
      shape[0] += part->rows();
  }
  return shape;
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
  const std::int64_t experts = conversion.config.integer("num_experts", 0);
  std::map<std::string, std::int64_t> of_kind;
  for (const std::string& name : plan.order)
    ++of_kind[kind_of(name)];
  std::map<std::string, std::int64_t> position;
  for (const std::string& name : plan.order) {
    Source& source = plan.sources.at(name);
    const Shape shape = stacked_shape(source, name.find("_exps.") != std::string::npos);
    const std::string kind = kind_of(name);
    const GgufMixture mixture{conversion.type, of_kind[kind], experts,
                              !plan.sources.contains("output.weight")};
    const DType dtype = gguf_tensor_type(mixture, name, shape, position[kind]++);
    writer.add_tensor({name, dtype, shape,
                       Encoder(name, std::move(source), dtype, conversion.config.head_dim, pool)});
  }
  return writer.write(path, progress);
}

}  // namespace plumb
