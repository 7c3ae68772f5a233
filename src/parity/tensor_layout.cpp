#include "parity/tensor_layout.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>

#include "graph/builder.h"
#include "parity/residual.h"

namespace plumb {

namespace {

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// Where a name's layer stands: a number by itself, else one behind a word for layers (layer3, L3, blk3).
struct LayerPlace {
  std::size_t first;
  std::size_t count;
};

std::optional<LayerPlace> layer_place(std::string_view name) {
  constexpr std::string_view kWords[] = {"layer", "layers", "l", "block", "blocks", "blk", "h", "decoder", "dec"};
  std::optional<LayerPlace> behind_word;
  for (std::size_t i = 0; i < name.size();) {
    if (!is_digit(name[i])) {
      ++i;
      continue;
    }
    std::size_t end = i;
    while (end < name.size() && is_digit(name[end]))
      ++end;
    if (i == 0 || !is_letter(name[i - 1])) return LayerPlace{i, end - i};
    std::string word;
    for (std::size_t at = i; at > 0 && is_letter(name[at - 1]); --at)
      word.insert(word.begin(), static_cast<char>(name[at - 1] | 0x20));
    if (!behind_word && std::ranges::find(kWords, word) != std::end(kWords)) behind_word = LayerPlace{i, end - i};
    i = end;
  }
  return behind_word;
}

}  // namespace

int layer_of(const std::string& name) {
  constexpr std::size_t kMostDigits = 6;
  const auto place = layer_place(name);
  if (!place) return -1;
  int value = 0;
  for (const char digit : name.substr(place->first, std::min(place->count, kMostDigits)))
    value = 10 * value + (digit - '0');
  return value;
}

std::string pattern_of(const std::string& name) {
  const auto place = layer_place(name);
  return place ? std::string(name).replace(place->first, place->count, "#") : name;
}

Numbering::Numbering(const std::vector<std::string>& names, int layers) : layers_(layers) {
  for (const std::string& name : names) {
    if (layer_of(name) == layers) from_one_.insert(pattern_of(name));
  }
}

int Numbering::layer(const std::string& name) const {
  const int number = layer_of(name);
  return number >= 0 && from_one_.contains(pattern_of(name)) ? number - 1 : number;
}

bool Numbering::may_be_outside(const std::string& name) const {
  return from_one_.contains(pattern_of(name)) && layer_of(name) == layers_;
}

std::string without_step(const std::string& name) {
  return name.substr(name.find('/') + 1);
}

std::vector<std::vector<std::size_t>> axis_orders(const Shape& shape, std::int64_t tokens) {
  std::vector<std::size_t> axes;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] != 1 || (tokens == 1 && i == 0)) axes.push_back(i);
  }
  std::vector<std::vector<std::size_t>> list;
  if (axes.size() > 4) return list;
  std::sort(axes.begin(), axes.end());
  do {
    if (!axes.empty() && shape[axes[0]] == tokens) list.push_back(axes);
  } while (std::next_permutation(axes.begin(), axes.end()));
  return list;
}

Tensor arranged(const StoredTensor& stored, const Layout& layout, const Shape& token_shape) {
  const Tensor all = Trace::read(stored);
  std::vector<std::int64_t> strides(stored.shape.size(), 1);
  for (std::size_t i = stored.shape.size(); i-- > 1;)
    strides[i - 1] = strides[i] * stored.shape[i];
  const std::int64_t tokens = layout.axes.empty() ? 1 : stored.shape[layout.axes[0]];
  Shape shape{tokens};
  shape.insert(shape.end(), token_shape.begin(), token_shape.end());
  Tensor out(shape);
  std::vector<std::int64_t> sizes;
  std::vector<std::int64_t> steps;
  for (std::size_t i = 1; i < layout.axes.size(); ++i) {
    sizes.push_back(stored.shape[layout.axes[i]]);
    steps.push_back(strides[layout.axes[i]]);
  }
  for (std::int64_t t = 0; t < tokens; ++t) {
    const std::int64_t base = layout.axes.empty() ? 0 : t * strides[layout.axes[0]];
    for (std::int64_t c = 0; c < layout.count; ++c) {
      std::int64_t rest = layout.first + c;
      std::int64_t offset = base;
      for (std::size_t i = sizes.size(); i-- > 0;) {
        offset += rest % sizes[i] * steps[i];
        rest /= sizes[i];
      }
      out.data[static_cast<std::size_t>(t * layout.count + c)] =
          all.data[static_cast<std::size_t>(offset)];
    }
  }
  return out;
}

std::vector<Layout> layouts_of(const StoredTensor& tensor, std::int64_t tokens, const Output& output) {
  const std::int64_t width = element_count(tensor.shape).value_or(0) / std::max<std::int64_t>(tokens, 1);
  std::vector<Layout> list;
  std::vector<Layout> flat;
  if (!may_be_wide(output, width)) return list;
  const bool any = std::ranges::find(output.shape, kAnyLength) != output.shape.end();
  for (const auto& axes : axis_orders(tensor.shape, tokens)) {
    const bool same_rank = axes.size() == output.shape.size() + 1;
    bool same = same_rank;
    for (std::size_t i = 0; same && i + 1 < axes.size(); ++i)
      same = output.shape[i] == kAnyLength || output.shape[i] == tensor.shape[axes[i + 1]];
    if (same) list.push_back({axes, 0, width});
    else if (!any && !same_rank) flat.push_back({axes, 0, width});
  }
  return list.empty() ? flat : list;
}

Layout likest_layout(const StoredTensor& tensor, const std::vector<Layout>& layouts, const Tensor& ours) {
  const Layout* likest = &layouts.front();
  double most = -2;
  for (const Layout& layout : layouts) {
    const bool fits = layout.count == ours.width() && tensor.shape[layout.axes[0]] == ours.tokens();
    const double alike = fits ? correlation(arranged(tensor, layout, Shape(ours.shape.begin() + 1, ours.shape.end())), ours) : -1;
    if (alike <= most) continue;
    likest = &layout;
    most = alike;
  }
  return *likest;
}

bool masked(double value) {
  return !std::isfinite(value) || value <= kMaskedScore;
}

double correlation(const Tensor& a, const Tensor& b) {
  double ab = 0;
  double aa = 0;
  double bb = 0;
  std::size_t one_masked = 0;  // scores that one side masks alone: its axes stand otherwise
  for (std::size_t i = 0; i < a.data.size(); ++i) {
    if (masked(a.data[i]) || masked(b.data[i])) {
      one_masked += masked(a.data[i]) != masked(b.data[i]) ? 1 : 0;
      continue;
    }
    ab += a.data[i] * b.data[i];
    aa += a.data[i] * a.data[i];
    bb += b.data[i] * b.data[i];
  }
  const double agreed = 1 - static_cast<double>(one_masked) /
                                static_cast<double>(std::max<std::size_t>(a.data.size(), 1));
  return aa > 0 && bb > 0 ? agreed * ab / std::sqrt(aa * bb) : 0;
}

bool may_be_wide(const Output& output, std::int64_t width) {
  const bool any =
      std::find(output.shape.begin(), output.shape.end(), kAnyLength) != output.shape.end();
  return output.per_token && (any || element_count(output.shape) == width);
}

}  // namespace plumb
