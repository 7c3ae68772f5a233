#include "parity/fitted_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "core/check.h"
#include "parity/stage_names.h"

namespace plumb {
namespace {

constexpr std::size_t kMostAxes = 6;

// Tensors of another source, some of them replaced by copies in another layout.
class FittedSource final : public TensorSource {
 public:
  explicit FittedSource(std::shared_ptr<const TensorSource> original) : original_(std::move(original)) {
    const auto all = original_->tensors();
    tensors_.assign(all.begin(), all.end());
    for (std::size_t i = 0; i < tensors_.size(); ++i)
      places_[tensors_[i].name] = i;
  }
  std::span<const StoredTensor> tensors() const override { return tensors_; }
  const StoredTensor* find(std::string_view name) const override {
    const auto place = places_.find(name);
    return place == places_.end() ? nullptr : &tensors_[place->second];
  }
  std::string where() const override { return original_->where(); }

  void replace(std::size_t index, Shape shape, std::vector<std::byte> bytes) {
    copies_.push_back(std::move(bytes));
    tensors_[index].shape = std::move(shape);
    tensors_[index].bytes = copies_.back();
  }
  // The same elements in the same order.
  void reshape(std::size_t index, Shape shape) { tensors_[index].shape = std::move(shape); }

 private:
  std::shared_ptr<const TensorSource> original_;
  std::vector<StoredTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> places_;
  std::vector<std::vector<std::byte>> copies_;  // the buffers stay where they are when this grows
};

// The order of a tensor's axes in which its shape is [rows, then `token_shape`], unit axes left out where there are too many:
// as they stand, or in another order. Empty when none fits.
std::vector<std::size_t> fitting_axes(const Shape& shape, std::int64_t rows, const Shape& token_shape, bool as_they_stand) {
  const std::size_t rank = token_shape.size() + 1;
  if (shape.size() > kMostAxes) return {};
  const auto fits = [&](const std::vector<std::size_t>& axes) {
    if (shape[axes[0]] != rows) return false;
    for (std::size_t i = 0; i < token_shape.size(); ++i) {
      if (token_shape[i] != kAnyLength && shape[axes[i + 1]] != token_shape[i]) return false;
    }
    return true;
  };
  std::vector<std::size_t> axes(shape.size());
  std::iota(axes.begin(), axes.end(), std::size_t{0});
  for (std::size_t i = 0; axes.size() > rank && i < axes.size();) {  // leading ones first: the batch
    if (shape[axes[i]] == 1 && !(rows == 1 && axes.size() == rank + 1 && i > 0)) {
      axes.erase(axes.begin() + static_cast<std::ptrdiff_t>(i));
    } else {
      ++i;
    }
  }
  if (axes.size() != rank) return {};
  do {
    if (fits(axes)) return axes;
  } while (!as_they_stand && std::next_permutation(axes.begin(), axes.end()));
  return {};
}

// The elements whose index along each axis of `axes` is in `keep`, in that order of axes.
std::vector<std::byte> taken(const StoredTensor& stored, const std::vector<std::size_t>& axes, const std::vector<std::vector<std::int64_t>>& keep) {
  std::vector<std::int64_t> strides(stored.shape.size(), 1);
  for (std::size_t i = stored.shape.size(); i-- > 1;)
    strides[i - 1] = strides[i] * stored.shape[i];
  const std::size_t size = stored.bytes.size() / static_cast<std::size_t>(std::max<std::int64_t>(element_count(stored.shape).value_or(1), 1));
  std::size_t count = 1;
  for (const auto& indices : keep)
    count *= indices.size();
  std::vector<std::byte> bytes(count * size);
  std::vector<std::size_t> at(axes.size(), 0);
  for (std::size_t element = 0; element < count; ++element) {
    std::int64_t offset = 0;
    for (std::size_t i = 0; i < axes.size(); ++i)
      offset += keep[i][at[i]] * strides[axes[i]];
    std::memcpy(bytes.data() + element * size, stored.bytes.data() + static_cast<std::size_t>(offset) * size, size);
    for (std::size_t i = axes.size(); i-- > 0;) {
      if (++at[i] < keep[i].size()) break;
      at[i] = 0;
    }
  }
  return bytes;
}

std::vector<std::int64_t> range(std::int64_t first, std::int64_t end) {
  std::vector<std::int64_t> list(static_cast<std::size_t>(std::max<std::int64_t>(end - first, 0)));
  std::iota(list.begin(), list.end(), first);
  return list;
}

struct Pass {
  std::int64_t rows = 0;  // as the engine ran it, padding and all
  std::int64_t end = 0;   // one past its last position, counted from the first token of padding
};

class Fitter {
 public:
  Fitter(const Graph& graph, const Trace& trace, const Padding& padding) : padding_(padding) {
    for (const Stage& stage : graph.stages) {
      for (const Output& output : stage.outputs)
        outputs_[output.name] = &output;
    }
    const std::int64_t outside = padding.in_ids ? 0 : padding.count();
    std::int64_t end = 0;
    for (const TraceStep& step : trace.steps()) {
      const std::int64_t rows = step.count + (passes_.empty() ? outside : 0);
      passes_.push_back({.rows = rows, .end = end += rows});
    }
  }

  // The tensor in the stage's own layout; false where it has none.
  bool fit(const StoredTensor& stored, std::size_t index, FittedSource& source) const {
    const std::size_t slash = stored.name.find('/');
    const std::size_t step = slash == std::string::npos ? passes_.size() : static_cast<std::size_t>(std::strtoul(stored.name.c_str(), nullptr, 10));
    if (step >= passes_.size() || !element_count(stored.shape).value_or(0)) return true;
    const std::string name = stored.name.substr(slash + 1);
    const auto known = outputs_.find(name);
    if (known == outputs_.end()) return cut_unknown(stored, name, step, index, source);
    const Output& output = *known->second;
    if (!output.per_token) return true;
    if (stored.shape == output.shape) {  // one row without its axis
      Shape shape{1};
      shape.insert(shape.end(), stored.shape.begin(), stored.shape.end());
      source.replace(index, shape, {stored.bytes.begin(), stored.bytes.end()});
      return true;
    }
    for (const bool as_they_stand : {true, false}) {
      for (const std::int64_t rows : {passes_[step].rows, std::int64_t{1}, passes_[step].rows - 1}) {  // all, the last alone, all but the first
        const auto axes = rows > 0 ? fitting_axes(stored.shape, rows, output.shape, as_they_stand) : std::vector<std::size_t>{};
        if (axes.empty()) continue;
        rearrange(stored, axes, 0, step, is_over_keys(stage_name(name).role), index, source);
        return true;
      }
    }
    return fit_flat(stored, output, step, index, source);
  }

 private:
  // A stage of several axes whose tensor has them side by side in one, as a projection leaves its heads.
  bool fit_flat(const StoredTensor& stored, const Output& output, std::size_t step, std::size_t index, FittedSource& source) const {
    const auto width = element_count(output.shape);
    const bool open = std::ranges::find(output.shape, kAnyLength) != output.shape.end();
    if (output.shape.size() < 2 || open || !width) return false;
    for (const std::int64_t rows : {passes_[step].rows, std::int64_t{1}}) {
      const auto axes = fitting_axes(stored.shape, rows, {*width}, true);
      if (axes.empty()) continue;
      rearrange(stored, axes, 0, step, false, index, source);
      Shape shape{source.tensors()[index].shape[0]};
      shape.insert(shape.end(), output.shape.begin(), output.shape.end());
      source.reshape(index, std::move(shape));
      return true;
    }
    return false;
  }

  bool padded(std::size_t step) const { return padding_.count() > 0 && step == 0; }

  // Of `rows` rows of a pass those of the prompt's own tokens.
  std::vector<std::int64_t> own_rows(std::int64_t rows, std::size_t step) const {
    if (!padded(step) || rows != passes_[step].rows) return range(0, rows);
    return range(padding_.left, rows - padding_.right);
  }

  // Of the columns, which are the last positions seen, those that are not padding.
  std::vector<std::int64_t> own_keys(std::int64_t columns, std::size_t step) const {
    const std::int64_t end = passes_[step].end;
    if (padding_.count() == 0 || columns > end) return range(0, columns);
    const std::int64_t right = passes_[0].rows - padding_.right;
    std::vector<std::int64_t> list;
    for (std::int64_t k = 0; k < columns; ++k) {
      const std::int64_t position = end - columns + k;
      if (position >= padding_.left && (position < right || position >= passes_[0].rows)) list.push_back(k);
    }
    return list;
  }

  // Axis `tokens` of `axes` counts tokens; none where it is beyond them.
  void rearrange(const StoredTensor& stored, const std::vector<std::size_t>& axes, std::size_t tokens, std::size_t step, bool keyed,
                 std::size_t index, FittedSource& source) const {
    std::vector<std::vector<std::int64_t>> keep;
    Shape shape;
    for (std::size_t i = 0; i < axes.size(); ++i) {
      const std::int64_t length = stored.shape[axes[i]];
      if (i == tokens) keep.push_back(own_rows(length, step));
      else if (keyed && i + 1 == axes.size()) keep.push_back(own_keys(length, step));
      else keep.push_back(range(0, length));
      shape.push_back(std::ssize(keep.back()));
    }
    if (shape != stored.shape || !std::is_sorted(axes.begin(), axes.end())) source.replace(index, shape, taken(stored, axes, keep));
  }

  // Names that are not the graph's: the axes are for the alignment to find, padding is cut from the first that counts tokens.
  bool cut_unknown(const StoredTensor& stored, const std::string& name, std::size_t step, std::size_t index, FittedSource& source) const {
    const bool keyed = is_over_keys(stage_name(name).role);
    if (padding_.count() == 0 || (!padded(step) && !keyed)) return true;
    std::vector<std::size_t> axes(stored.shape.size());
    std::iota(axes.begin(), axes.end(), std::size_t{0});
    const auto tokens = std::find(stored.shape.begin(), stored.shape.end(), passes_[step].rows) - stored.shape.begin();
    rearrange(stored, axes, static_cast<std::size_t>(tokens), step, keyed, index, source);
    return true;
  }

  const Padding padding_;
  std::map<std::string, const Output*, std::less<>> outputs_;
  std::vector<Pass> passes_;
};

TraceManifest unpadded(TraceManifest manifest, const Padding& padding) {
  if (padding.count() == 0) return manifest;
  if (padding.in_ids) {
    auto& ids = manifest.token_ids;
    ids.erase(ids.end() - padding.right, ids.end());
    ids.erase(ids.begin(), ids.begin() + padding.left);
    manifest.steps[0].count -= padding.count();
  }
  std::int64_t next = padding.first;
  for (TraceStep& step : manifest.steps) {
    step.first = next;
    next += step.count;
  }
  return manifest;
}

// The ids that the configuration names under a key, one or a list.
std::set<std::int32_t> ids_named(const Model& model, const char* key) {
  std::set<std::int32_t> ids;
  const auto config = nlohmann::json::parse(model.config->json(), nullptr, false);
  if (!config.is_object()) return ids;
  const auto take = [&](const nlohmann::json& section) {
    const auto named = section.find(key);
    if (named == section.end()) return;
    for (const auto& id : named->is_array() ? *named : nlohmann::json::array({*named})) {
      if (id.is_number_integer()) ids.insert(id.get<std::int32_t>());
    }
  };
  take(config);
  if (const auto text = config.find("text_config"); text != config.end() && text->is_object()) take(*text);
  return ids;
}

// How many rows most tensors of the first pass have more than there are ids; 0 where they have as many.
std::int64_t extra_rows(const Graph& graph, const Trace& trace) {
  std::map<std::int64_t, int> extra;
  const std::int64_t tokens = trace.steps()[0].count;
  for (const Stage& stage : graph.stages) {
    for (const Output& output : stage.outputs) {
      const StoredTensor* stored = trace.find(0, output.name);
      if (stored == nullptr || !output.per_token || !fitting_axes(stored->shape, tokens, output.shape, false).empty()) continue;
      const auto count = element_count(stored->shape);
      const auto width = element_count(output.shape);
      const bool fixed = std::ranges::find(output.shape, kAnyLength) == output.shape.end();
      if (fixed && count && width && *width > 0 && *count % *width == 0 && *count / *width > tokens) ++extra[*count / *width - tokens];
    }
  }
  const auto most = std::max_element(extra.begin(), extra.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == extra.end() ? 0 : most->first;
}

// Whether what is left is what the tokenizer gives for the trace's text.
bool text_says(const Model& model, const TraceManifest& manifest, const std::vector<std::int32_t>& rest) {
  if (model.tokenizer == nullptr || (!manifest.prompt && !manifest.rendered)) return false;
  const auto ids = model.tokenizer->encode(manifest.rendered ? *manifest.rendered : *manifest.prompt,
                                           {.add_special = !manifest.rendered, .parse_special = true});
  return ids.ok() && ids.value() == rest;
}

}  // namespace

std::string to_string(const Padding& padding) {
  const auto side = [](std::int64_t count, const char* where) {
    return fmt::format("{} token{} of padding {} the prompt", count, count == 1 ? "" : "s", where);
  };
  return padding.left > 0 ? side(padding.left, "before") : side(padding.right, "after");
}

std::vector<Padding> possible_paddings(const Model& model, const Trace& trace) {
  const TraceManifest& manifest = trace.manifest();
  const auto& ids = manifest.token_ids;
  std::vector<Padding> list;
  const auto add = [&](Padding padding) {
    list.push_back(padding);
    if (padding.left == 0) return;
    padding.first = padding.left;  // rotated where they stand: the same, all positions shifted
    list.push_back(padding);
  };
  if (trace.steps().empty() || trace.steps()[0].count != std::ssize(ids) || ids.empty()) return list;
  const auto pads = ids_named(model, "pad_token_id");
  const auto begins = ids_named(model, "bos_token_id");
  const auto& ends = model.stop_ids;
  const auto run = [&](auto begin, auto end) {
    return static_cast<std::int64_t>(std::find_if(begin, end, [&](std::int32_t id) { return id != *begin; }) - begin);
  };
  constexpr std::int64_t kRun = 2;      // of an id that no configuration names
  constexpr std::int64_t kLongRun = 3;  // of the id that begins texts: twice is a fault of its own (row 2)
  const std::int64_t left = run(ids.begin(), ids.end());
  const std::int64_t right = run(ids.rbegin(), ids.rend());
  if (left < std::ssize(ids)) {
    // One id that no configuration names is a token too many (a space, row 4), not padding.
    const auto may_pad = [&](std::int32_t id, std::int64_t count) {
      return count >= kRun || pads.contains(id) || begins.contains(id) || std::find(ends.begin(), ends.end(), id) != ends.end();
    };
    const bool front = may_pad(ids.front(), left) && text_says(model, manifest, {ids.begin() + left, ids.end()});
    const bool back = may_pad(ids.back(), right) && text_says(model, manifest, {ids.begin(), ids.end() - right});
    const bool left_pads = front || pads.contains(ids.front());
    const bool right_pads = back || pads.contains(ids.back());
    // An id that begins or ends texts is no padding for being there.
    const bool left_known = left_pads && (front || left >= kLongRun || !begins.contains(ids.front()));
    const bool right_known = right_pads && (back || std::find(ends.begin(), ends.end(), ids.back()) == ends.end());
    if (left >= kRun || left_pads) add({.left = left, .right = 0, .in_ids = true, .known = left_known, .first = 0});
    if (left >= kRun && begins.contains(ids.front()))  // the last of them begins the text
      add({.left = left - 1, .right = 0, .in_ids = true, .known = left_known, .first = 0});
    if (right >= kRun || right_pads) add({.left = 0, .right = right, .in_ids = true, .known = right_known, .first = 0});
  }
  constexpr std::int64_t kMostTimes = 1024;
  const std::int64_t extra = extra_rows(model.network.graph, trace);
  if (extra > 0 && extra / kMostTimes <= trace.steps()[0].count) {
    add({.left = extra, .right = 0, .in_ids = false, .known = true, .first = 0});
    add({.left = 0, .right = extra, .in_ids = false, .known = true, .first = 0});
  }
  return list;
}

FittedTrace fit_trace(const Graph& graph, const Trace& trace, const Padding& padding) {
  auto source = std::make_shared<FittedSource>(trace.source());
  const Fitter fitter(graph, trace, padding);
  std::vector<std::string> misfits;
  const auto tensors = trace.tensors();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (!fitter.fit(tensors[i], i, *source))
      misfits.push_back(fmt::format("\"{}\": its shape {} is not the stage's", tensors[i].name, to_string(tensors[i].shape)));
  }
  return {Trace::of(unpadded(trace.manifest(), padding), std::move(source)), std::move(misfits)};
}

}  // namespace plumb
