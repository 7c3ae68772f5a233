// Rows of tensors by position.
#include "parity/trace_side.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <set>

namespace plumb {
namespace {

constexpr std::int64_t kMostPositions = std::int64_t{1} << 24;

// "STEP/NAME" taken apart; false when the step is no number.
bool split_name(const std::string& full, std::size_t& step, std::string& name) {
  const std::size_t slash = full.find('/');
  if (slash == std::string::npos || slash == 0 || slash > 7) return false;
  step = 0;
  for (std::size_t i = 0; i < slash; ++i) {
    if (full[i] < '0' || full[i] > '9') return false;
    step = 10 * step + static_cast<std::size_t>(full[i] - '0');
  }
  name = full.substr(slash + 1);
  return true;
}

std::vector<std::size_t> other_axes(const Shape& shape, std::size_t token_axis) {
  std::vector<std::size_t> axes;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i != token_axis && shape[i] != 1) axes.push_back(i);
  }
  return axes;
}

// The same for [heads, keys], where one head and one key are axes like others.
std::vector<std::size_t> key_axes(const Shape& shape, std::size_t token_axis) {
  std::vector<std::size_t> axes;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i != token_axis) axes.push_back(i);
  }
  while (axes.size() > 2 && shape[axes.front()] == 1)
    axes.erase(axes.begin());
  return axes;
}

std::vector<std::int64_t> strides_of(const Shape& shape) {
  std::vector<std::int64_t> strides(shape.size(), 1);
  for (std::size_t i = shape.size(); i-- > 1;)
    strides[i - 1] = strides[i] * shape[i];
  return strides;
}

// Where each channel of a row lies, from the row's first element.
std::vector<std::size_t> channel_offsets(const Shape& shape, const std::vector<std::size_t>& axes) {
  const auto strides = strides_of(shape);
  std::vector<std::size_t> offsets{0};
  for (const std::size_t axis : axes) {
    std::vector<std::size_t> next;
    next.reserve(offsets.size() * static_cast<std::size_t>(shape[axis]));
    for (const std::size_t base : offsets) {
      for (std::int64_t i = 0; i < shape[axis]; ++i)
        next.push_back(base + static_cast<std::size_t>(i * strides[axis]));
    }
    offsets = std::move(next);
  }
  return offsets;
}

}  // namespace

std::optional<std::size_t> RowSet::width() const {
  for (std::size_t i = 1; i < size(); ++i) {
    if (row(i).size() != row(0).size()) return std::nullopt;
  }
  return size() == 0 ? 0 : row(0).size();
}

TraceSide::TraceSide(const Trace& trace) : trace_(&trace) {
  std::map<std::string, std::size_t> index;
  const auto place = [&](const std::string& name) {
    const auto [found, fresh] = index.insert({name, stages_.size()});
    if (fresh) stages_.push_back({.theirs = name, .name = stage_name(name), .pieces = {}});
    return found->second;
  };
  for (const std::string& name : trace.manifest().stages)
    place(name);
  const auto& steps = trace.steps();
  for (const StoredTensor& tensor : trace.tensors()) {
    std::size_t step = 0;
    std::string name;
    if (!split_name(tensor.name, step, name) || step >= steps.size()) continue;
    if (element_count(tensor.shape).value_or(0) < 1) continue;
    stages_[place(name)].pieces.push_back({step, &tensor});
  }
  std::erase_if(stages_, [](const StagePieces& stage) { return stage.pieces.empty(); });
  for (StagePieces& stage : stages_)
    std::sort(stage.pieces.begin(), stage.pieces.end(),
              [](const auto& x, const auto& y) { return x.step < y.step; });
  for (std::size_t step = 0; step < steps.size(); ++step) {
    const auto fed = trace.fed_ids(step);
    if (std::ssize(ids_) + std::ssize(fed) > kMostPositions) break;
    for (std::size_t i = 0; i < fed.size(); ++i)
      ids_.insert({steps[step].first + static_cast<std::int64_t>(i), fed[i]});
  }
}

const StagePieces* TraceSide::find_role(int layer, std::string_view role) const {
  for (const StagePieces& stage : stages_) {
    if (stage.name.layer == layer && stage.name.role == role) return &stage;
  }
  return nullptr;
}

std::vector<RowLayout> TraceSide::layouts(const StagePieces& stage) const {
  const Shape& shape = stage.pieces[0].tensor->shape;
  if (is_whole(stage.name.role)) {
    std::vector<std::size_t> axes = other_axes(shape, shape.size());
    return {{.token_axis = std::nullopt, .channel_axes = axes, .from_end = true, .shift = 0}};
  }
  const auto& steps = trace_->steps();
  const auto fits = [&](std::size_t axis) {
    return std::all_of(stage.pieces.begin(), stage.pieces.end(),
                       [&](const StagePieces::Piece& piece) {
                         return piece.tensor->shape.size() == shape.size() &&
                                piece.tensor->shape[axis] == steps[piece.step].count;
                       });
  };
  std::vector<RowLayout> list;
  const auto longest = std::max_element(
      stage.pieces.begin(), stage.pieces.end(),
      [&](const auto& x, const auto& y) { return steps[x.step].count < steps[y.step].count; });
  const Shape& long_shape = longest->tensor->shape;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    if (!fits(axis)) continue;
    // A unit axis is as good as any other: one of them is enough.
    if (steps[longest->step].count == 1 && !list.empty()) break;
    list.push_back({.token_axis = axis,
                    .channel_axes = is_over_keys(stage.name.role) ? key_axes(long_shape, axis)
                                                                  : other_axes(long_shape, axis)});
  }
  if (!list.empty() || shape.empty()) return list;
  // Padded, trimmed, or the last token alone: rows on the first axis that is no batch.
  const std::size_t axis = shape.size() > 2 && shape[0] == 1 ? 1 : 0;
  const bool same_rank = std::all_of(
      stage.pieces.begin(), stage.pieces.end(),
      [&](const StagePieces::Piece& piece) { return piece.tensor->shape.size() == shape.size(); });
  if (!same_rank) return list;
  // One token may have lost its axis.
  const bool lost = shape.size() == 1 && steps[longest->step].count != shape[0];
  if (lost) {
    std::vector<std::size_t> axes = other_axes(shape, shape.size());
    return {{.token_axis = std::nullopt, .channel_axes = axes, .from_end = true, .shift = 0}};
  }
  const auto rest = other_axes(long_shape, axis);
  const std::int64_t rows = long_shape[axis];
  const std::int64_t more = rows - steps[longest->step].count;
  list.push_back({.token_axis = axis, .channel_axes = rest, .from_end = true, .shift = 0});
  list.push_back({.token_axis = axis, .channel_axes = rest, .from_end = false, .shift = 0});
  constexpr std::int64_t kMostShifts = 64;
  for (std::int64_t shift = 1; shift < std::min(std::abs(more), kMostShifts); ++shift)
    list.push_back({.token_axis = axis,
                    .channel_axes = rest,
                    .from_end = false,
                    .shift = more > 0 ? shift : -shift});
  return list;
}

std::map<std::int64_t, TraceSide::Source> TraceSide::sources(const StagePieces& stage,
                                                             const RowLayout& layout) const {
  const auto& steps = trace_->steps();
  std::map<std::int64_t, Source> found;
  for (std::size_t p = 0; p < stage.pieces.size(); ++p) {
    const TraceStep& step = steps[stage.pieces[p].step];
    const Shape& shape = stage.pieces[p].tensor->shape;
    if (!layout.token_axis) {
      found.insert({step.first + step.count - 1, {p, 0}});
      continue;
    }
    if (*layout.token_axis >= shape.size()) continue;
    const std::int64_t rows = shape[*layout.token_axis];
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::int64_t token =
          layout.from_end ? step.count - rows + row - layout.shift : row - layout.shift;
      if (token >= 0 && token < step.count) found.insert({step.first + token, {p, row}});
    }
  }
  return found;
}

std::vector<std::int64_t> TraceSide::positions(const StagePieces& stage,
                                               const RowLayout& layout) const {
  std::vector<std::int64_t> list;
  for (const auto& [position, source] : sources(stage, layout))
    list.push_back(position);
  return list;
}

RowSet TraceSide::gather(const StagePieces& stage, const RowLayout& layout,
                         const std::vector<std::int64_t>* only) const {
  const auto& steps = trace_->steps();
  RowSet set;
  set.begin.push_back(0);
  std::size_t read = stage.pieces.size();  // the piece that `tensor` holds
  Tensor tensor;
  std::vector<std::size_t> offsets;
  Shape channels;
  for (const auto& [position, source] : sources(stage, layout)) {
    if (only != nullptr && !std::binary_search(only->begin(), only->end(), position)) continue;
    const auto& piece = stage.pieces[source.piece];
    const Shape& shape = piece.tensor->shape;
    if (std::any_of(layout.channel_axes.begin(), layout.channel_axes.end(),
                    [&](std::size_t axis) { return axis >= shape.size(); }))
      continue;
    if (read != source.piece) {
      read = source.piece;
      tensor = Trace::read(*piece.tensor);
      offsets = channel_offsets(shape, layout.channel_axes);
      channels.clear();
      for (const std::size_t axis : layout.channel_axes)
        channels.push_back(shape[axis]);
    }
    const std::size_t base =
        layout.token_axis
            ? static_cast<std::size_t>(source.row * strides_of(shape)[*layout.token_axis])
            : 0;
    for (const std::size_t offset : offsets)
      set.values.push_back(tensor.data[base + offset]);
    set.begin.push_back(set.values.size());
    set.positions.push_back(position);
    set.channels.push_back(channels);
    set.keys_end.push_back(steps[piece.step].first + steps[piece.step].count);
    set.extra_keys.push_back(0);
    set.steps.push_back(piece.step);
    set.dtype = piece.tensor->dtype;
  }
  return set;
}

namespace {

// Of the positions that both sides know under a shift: how many, and how many before the first that differs.
struct Agreement {
  std::int64_t shared = 0;
  std::int64_t before = 0;
  std::int64_t first = -1;    // A's first shared position
  std::int64_t differs = -1;  // A's first that differs
  std::int64_t last = -1;
};

Agreement agreement(const TraceSide& a, const TraceSide& b, std::int64_t shift) {
  Agreement result;
  for (const auto& [position, id] : a.ids()) {
    const auto other = b.ids().find(position + shift);
    if (other == b.ids().end()) continue;
    if (result.first < 0) result.first = position;
    result.last = position;
    ++result.shared;
    if (other->second != id && result.differs < 0) result.differs = position;
    if (result.differs < 0) ++result.before;
  }
  return result;
}

std::int64_t last_position(const TraceSide& side) {
  std::int64_t last = -1;
  for (const TraceStep& step : side.trace().steps())
    last = std::max(last, step.first + step.count - 1);
  return last;
}

}  // namespace

Result<TokenMatch> match_tokens(const TraceSide& a, const TraceSide& b) {
  TokenMatch match;
  if (a.ids().empty() || b.ids().empty()) {
    match.end = std::min(last_position(a), last_position(b)) + 1;
    match.notes.emplace_back(
        "the token ids: one side does not say which it fed; positions are taken as they are");
    if (match.end <= 0)
      return Error{ErrorCode::kInvalidArgument, "the traces have no position in common"};
    return match;
  }
  Agreement best = agreement(a, b, 0);
  if (best.shared == 0 || best.differs >= 0) {
    // Another start: a BOS or padding on one side only. The shift under which every shared id agrees, the longest overlap of all.
    constexpr std::int64_t kMostShift = 4096;
    const std::int64_t low =
        std::max(-kMostShift, b.ids().begin()->first - a.ids().rbegin()->first);
    const std::int64_t high =
        std::min(kMostShift, b.ids().rbegin()->first - a.ids().begin()->first);
    const std::int64_t shorter = std::min(std::ssize(a.ids()), std::ssize(b.ids()));
    for (std::int64_t shift = low; shift <= high; ++shift) {
      if (shift == 0) continue;
      const Agreement found = agreement(a, b, shift);
      const bool longer = found.before > best.before &&
                          found.before >= std::max<std::int64_t>(2, (shorter + 1) / 2);
      if (!longer) continue;
      best = found;
      match.shift = shift;
    }
  }
  if (best.before == 0)
    return Error{ErrorCode::kInvalidArgument,
                 "the traces have no token in common: no position has the same id on both sides"};
  match.first = best.first;
  match.end = best.differs >= 0 ? best.differs : best.last + 1;
  if (match.shift != 0) {
    match.notes.push_back(fmt::format(
        "{} has {} more token{} at its start: A's position p is compared with B's position p{:+}",
        match.shift > 0 ? "B" : "A", std::abs(match.shift), std::abs(match.shift) > 1 ? "s" : "",
        match.shift));
  }
  if (best.differs >= 0) {
    match.notes.push_back(fmt::format("positions from {} on: the ids fed differ there (A {}, B {})",
                                      best.differs, a.ids().at(best.differs),
                                      b.ids().at(best.differs + match.shift)));
  }
  const std::int64_t others = std::ssize(a.ids()) + std::ssize(b.ids()) - 2 * best.shared;
  if (others > 0 && match.shift == 0)
    match.notes.push_back(
        fmt::format("{} position{}: only one side computed them", others, others > 1 ? "s" : ""));
  return match;
}

}  // namespace plumb
