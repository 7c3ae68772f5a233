// Content is looked at on a few rows. A pair by name keeps its layout unless another brings it nearly to nothing: a fault is no
// layout.
#include "parity/pairing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "parity/measure.h"

namespace plumb {
namespace {

constexpr std::size_t kSampleRows = 24;
// By name: a layout of one's own is believed when it leaves this of the values, and a small part of what the plain one leaves.
constexpr double kNear = 0.1;
constexpr double kPart = 0.25;
// By content: what is likely the same stage with a fault upstream still is no farther than this.
constexpr double kFar = 0.8;
constexpr double kNameWeight = 0.2;

struct Fit {
  double distance = std::numeric_limits<double>::infinity();
  RowLayout a_layout;
  RowLayout b_layout;
  std::vector<std::size_t> source;
  bool a_is_wide = false;
  bool keyed = false;
};

class Pairer {
 public:
  Pairer(const TraceSide& a, const TraceSide& b, const TokenMatch& tokens)
      : a_(a), b_(b), tokens_(tokens) {}

  Pairing run() {
    by_name();
    by_content();
    by_order();
    finish();
    return std::move(result_);
  }

 private:
  // The layout under which the stages are nearest. Channels are looked for when `search`.
  Fit fit(const StagePieces& a, const StagePieces& b, bool search, double enough) {
    Fit best;
    const auto a_layouts = a_.layouts(a);
    const auto b_layouts = b_.layouts(b);
    constexpr double kPlain = 0.02;
    for (const RowLayout& x : a_layouts) {
      for (const RowLayout& y : b_layouts) {
        if (x.token_axis.has_value() != y.token_axis.has_value() && is_whole(a.name.role)) continue;
        if (best.distance < kPlain) return best;
        Fit found;
        found.a_layout = x;
        found.b_layout = y;
        StagePair trial;
        trial.a = &a;
        trial.b = &b;
        trial.a_layout = x;
        trial.b_layout = y;
        const CommonRows rows = common_rows(a_, b_, trial, tokens_, kSampleRows);
        const auto a_width = rows.a.width();
        const auto b_width = rows.b.width();
        if (rows.a.size() == 0) continue;
        if (over_keys(a, b, !a_width || !b_width || *a_width != *b_width)) {
          fit_keys(rows, search, enough, found);
          if (found.distance < 0.9 * best.distance) best = found;
          continue;
        }
        if (!a_width || !b_width) continue;
        if (*a_width == 0 || *b_width == 0) continue;
        found.a_is_wide = *a_width >= *b_width;
        const Rows wide{found.a_is_wide ? rows.a.values : rows.b.values,
                        std::max(*a_width, *b_width)};
        const Rows narrow{found.a_is_wide ? rows.b.values : rows.a.values,
                          std::min(*a_width, *b_width)};
        if (wide.width == narrow.width) found.distance = distance_under(wide, narrow, {});
        if (search && found.distance > kPlain) {
          const Shape& wide_axes = (found.a_is_wide ? rows.a : rows.b).channels[0];
          const Shape& narrow_axes = (found.a_is_wide ? rows.b : rows.a).channels[0];
          const auto map = find_channels(wide, wide_axes, narrow, narrow_axes,
                                         std::min(enough, kPart * found.distance));
          if (map) {
            found.distance = map->distance;
            found.source = map->source;
          }
        }
        // A hair nearer is no reason to leave the likelier layout.
        if (found.distance < 0.9 * best.distance) best = found;
      }
    }
    return best;
  }

  // Whether the stages are rows over keys: by their names, or because unknown ones differ in width as only such rows do.
  static bool over_keys(const StagePieces& a, const StagePieces& b, bool widths_differ) {
    const auto may_be = [](const StagePieces& stage) {
      return is_over_keys(stage.name.role) || !stage.name.known;
    };
    const bool named = is_over_keys(a.name.role) && is_over_keys(b.name.role);
    return named || (widths_differ && may_be(a) && may_be(b));
  }

  // Key by key, with heads in another order where that is nearer.
  static void fit_keys(const CommonRows& rows, bool search, double enough, Fit& found) {
    const auto distance = [&](const std::vector<std::size_t>& heads) {
      const Measure m = measure(rows.a, rows.b, heads, true, true, {});
      return m.elements == 0 || m.broken > 0 ? std::numeric_limits<double>::infinity()
                                             : m.relative_l2;
    };
    found.keyed = true;
    found.a_is_wide = true;
    found.distance = distance({});
    if (!search || found.distance <= kNear) return;
    const auto heads = match_heads(rows.a, rows.b);
    if (!heads) return;
    const double other = distance(*heads);
    if (!(other <= std::min(enough, kPart * found.distance))) return;
    found.distance = other;
    found.source = *heads;
  }

  bool plain_fit(const StagePieces& a, const StagePieces& b, Fit& found) {
    found = fit(a, b, false, 0);
    return std::isfinite(found.distance);
  }

  void add(const StagePieces& a, const StagePieces& b, MatchedBy by, const Fit& found) {
    StagePair pair;
    pair.a = &a;
    pair.b = &b;
    pair.by = by;
    pair.a_layout = found.a_layout;
    pair.b_layout = found.b_layout;
    pair.source = found.source;
    pair.a_is_wide = found.a_is_wide;
    pair.keyed = found.keyed;
    // A fused side has no stage name of its own.
    const bool b_names = b.name.known && b.name.parts.empty() &&
                         !(found.a_is_wide == false && !found.source.empty() && a.name.known);
    pair.stage = b_names || !a.name.known ? canonical_name(b.name) : canonical_name(a.name);
    if (by != MatchedBy::kName && a.name.known && b.name.known && a.name.role != b.name.role &&
        !found.source.empty())
      pair.stage = canonical_name(found.a_is_wide ? b.name : a.name);
    used_a_.insert(&a);
    used_b_.insert(&b);
    result_.pairs.push_back(std::move(pair));
  }

  void by_name() {
    std::map<std::string, std::vector<const StagePieces*>> theirs;
    for (const StagePieces& stage : b_.stages())
      theirs[canonical_name(stage.name)].push_back(&stage);
    std::map<std::string, int> ours;
    for (const StagePieces& stage : a_.stages())
      ++ours[canonical_name(stage.name)];
    for (const StagePieces& stage : a_.stages()) {
      const auto found = theirs.find(canonical_name(stage.name));
      if (found == theirs.end() || found->second.size() != 1 || ours[found->first] != 1)
        continue;  // two of a name: content decides
      const StagePieces& other = *found->second[0];
      Fit plain;
      const bool fits = plain_fit(stage, other, plain);
      // The names are right; the order of axes and channels may not be.
      if (!fits || plain.distance > kNear) {
        const Fit other_order = fit(stage, other, true, kNear);
        if (other_order.distance <= kNear &&
            (!fits || other_order.distance < kPart * plain.distance))
          plain = other_order;
      }
      if (std::isfinite(plain.distance)) {
        add(stage, other, MatchedBy::kName, plain);
      } else if (stage.theirs == other.theirs) {
        used_a_.insert(&stage);
        used_b_.insert(&other);
        result_.misfits.push_back(
            fmt::format("\"{}\": its shapes {} and {} hold no rows of the same positions, or no "
                        "channels in common",
                        canonical_name(stage.name), to_string(stage.pieces[0].tensor->shape),
                        to_string(other.pieces[0].tensor->shape)));
      }
    }
  }

  void by_content() {
    struct Candidate {
      double score;
      const StagePieces* a;
      const StagePieces* b;
      Fit fit;
    };
    std::vector<Candidate> candidates;
    for (const StagePieces& x : a_.stages()) {
      for (const StagePieces& y : b_.stages()) {
        // One of a pair is new; the other may be fused, and hold several.
        if (x.name.layer != y.name.layer) continue;
        const bool x_used = used_a_.contains(&x);
        const bool y_used = used_b_.contains(&y);
        if (x_used || y_used) continue;
        const double alike = likeness(x.name, y.name);
        Fit found = fit(x, y, true, alike > 0 ? kFar / 2 : kNear);
        if (!(found.distance <= kFar)) continue;
        candidates.push_back({1 - found.distance + kNameWeight * alike, &x, &y, std::move(found)});
      }
    }
    std::stable_sort(candidates.begin(), candidates.end(),
                     [](const Candidate& p, const Candidate& q) { return p.score > q.score; });
    // A stage is taken once, a fused tensor once for each first channel.
    std::set<std::pair<const StagePieces*, std::size_t>> taken;
    std::set<const StagePieces*> whole;
    for (const Candidate& candidate : candidates) {
      const bool fused =
          !candidate.fit.keyed && !candidate.fit.source.empty() &&
          a_width(candidate.fit, *candidate.a) != b_width(candidate.fit, *candidate.b);
      const StagePieces* wide = candidate.fit.a_is_wide ? candidate.a : candidate.b;
      const StagePieces* narrow = candidate.fit.a_is_wide ? candidate.b : candidate.a;
      const std::size_t first = fused ? candidate.fit.source.front() : 0;
      if (whole.contains(narrow) || whole.contains(wide) || taken.contains({wide, first})) continue;
      if (std::any_of(taken.begin(), taken.end(), [&](const auto& entry) {
            return entry.first == narrow || (!fused && entry.first == wide);
          }))
        continue;
      whole.insert(narrow);
      if (fused) {
        taken.insert({wide, first});
      } else {
        whole.insert(wide);
      }
      add(*candidate.a, *candidate.b, MatchedBy::kContent, candidate.fit);
    }
  }

  static std::int64_t width(const StagePieces& stage, const RowLayout& layout) {
    std::int64_t all = 1;
    for (const std::size_t axis : layout.channel_axes)
      all *= stage.pieces[0].tensor->shape[axis];
    return all;
  }
  static std::int64_t a_width(const Fit& fit, const StagePieces& stage) {
    return width(stage, fit.a_layout);
  }
  static std::int64_t b_width(const Fit& fit, const StagePieces& stage) {
    return width(stage, fit.b_layout);
  }

  // What is left of a layer, of one width: paired in order when both sides have as many.
  void by_order() {
    std::map<std::pair<int, std::int64_t>,
             std::pair<std::vector<const StagePieces*>, std::vector<const StagePieces*>>>
        groups;
    const auto sort_in = [&](const TraceSide& side, const std::set<const StagePieces*>& used,
                             bool first) {
      for (const StagePieces& stage : side.stages()) {
        const auto layouts = side.layouts(stage);
        if (used.contains(&stage) || layouts.empty()) continue;
        auto& group = groups[{stage.name.layer, width(stage, layouts[0])}];
        (first ? group.first : group.second).push_back(&stage);
      }
    };
    sort_in(a_, used_a_, true);
    sort_in(b_, used_b_, false);
    for (const auto& [key, group] : groups) {
      if (group.first.size() != group.second.size()) continue;
      const bool known = std::any_of(group.first.begin(), group.first.end(),
                                     [](const StagePieces* stage) { return stage->name.known; }) &&
                         std::any_of(group.second.begin(), group.second.end(),
                                     [](const StagePieces* stage) { return stage->name.known; });
      if (known) continue;  // both sides' names say what they are, and that they differ
      for (std::size_t i = 0; i < group.first.size(); ++i) {
        Fit found;
        if (plain_fit(*group.first[i], *group.second[i], found))
          add(*group.first[i], *group.second[i], MatchedBy::kOrder, found);
      }
    }
  }

  void finish() {
    // In B's order of execution where its manifest says one, else A's, else that of the trace format.
    std::map<const StagePieces*, std::size_t> order_a;
    std::map<const StagePieces*, std::size_t> order_b;
    for (std::size_t i = 0; i < a_.stages().size(); ++i)
      order_a[&a_.stages()[i]] = i;
    for (std::size_t i = 0; i < b_.stages().size(); ++i)
      order_b[&b_.stages()[i]] = i;
    const bool by_b = !b_.trace().manifest().stages.empty();
    const bool by_a = !by_b && !a_.trace().manifest().stages.empty();
    const auto key = [&](const StagePair& pair) {
      const std::size_t first = by_b   ? order_b[pair.b]
                                : by_a ? order_a[pair.a]
                                       : execution_rank(stage_name(pair.stage));
      return std::make_tuple(first, by_a ? order_b[pair.b] : order_a[pair.a], order_b[pair.b]);
    };
    std::stable_sort(result_.pairs.begin(), result_.pairs.end(),
                     [&](const StagePair& p, const StagePair& q) { return key(p) < key(q); });
    for (StagePair& pair : result_.pairs)
      describe(pair);
    for (const StagePieces& stage : a_.stages()) {
      if (!used_a_.contains(&stage)) result_.only_a.push_back(stage.theirs);
    }
    for (const StagePieces& stage : b_.stages()) {
      if (!used_b_.contains(&stage)) result_.only_b.push_back(stage.theirs);
    }
  }

  void describe_rows(const char* side, const TraceSide& of, const StagePieces& stage,
                     const RowLayout& layout, std::vector<std::string>& out) const {
    const Shape& shape = stage.pieces[0].tensor->shape;
    const TraceStep& step = of.trace().steps()[stage.pieces[0].step];
    if (!layout.token_axis) {
      if (!is_whole(stage.name.role))
        out.push_back(fmt::format("{} holds the last token alone, without a token axis", side));
      return;
    }
    const std::size_t axis = *layout.token_axis;
    const std::int64_t rows = shape[axis];
    if (axis > 0 && step.count > 1) {
      const bool batch =
          std::all_of(shape.begin(), shape.begin() + static_cast<std::ptrdiff_t>(axis),
                      [](std::int64_t n) { return n == 1; });
      out.push_back(
          batch ? fmt::format("{} has a batch axis: {}", side, to_string(shape))
                : fmt::format("{} has its tokens on axis {}: {}", side, axis, to_string(shape)));
    } else if (shape.size() > 2 && axis == 0 && shape[0] == 1 && step.count == 1) {
      return;
    }
    if (rows == step.count) return;
    if (rows == 1 && layout.from_end) {
      out.push_back(fmt::format("{} holds the last token alone, of {}", side, step.count));
    } else if (rows > step.count) {
      const std::int64_t left = layout.from_end ? rows - step.count - layout.shift : layout.shift;
      out.push_back(
          fmt::format("{} is padded: {} rows for {} tokens, {} on the left and {} on the right",
                      side, rows, step.count, left, rows - step.count - left));
    } else {
      const std::int64_t left = layout.from_end ? step.count - rows - layout.shift : -layout.shift;
      out.push_back(fmt::format(
          "{} is trimmed: {} rows for {} tokens, {} left out at the start and {} at the end", side,
          rows, step.count, left, step.count - rows - left));
    }
  }

  void describe(StagePair& pair) const {
    describe_rows("A", a_, *pair.a, pair.a_layout, pair.transforms);
    describe_rows("B", b_, *pair.b, pair.b_layout, pair.transforms);
    if (pair.source.empty()) return;
    if (pair.keyed) {
      std::string order;
      for (const std::size_t head : pair.source)
        order += (order.empty() ? "" : ", ") + std::to_string(head);
      pair.transforms.push_back("A holds its heads in the order " + order);
      return;
    }
    const StagePieces& wide = pair.a_is_wide ? *pair.a : *pair.b;
    const StagePieces& narrow = pair.a_is_wide ? *pair.b : *pair.a;
    const RowLayout& wide_layout = pair.a_is_wide ? pair.a_layout : pair.b_layout;
    const RowLayout& narrow_layout = pair.a_is_wide ? pair.b_layout : pair.a_layout;
    const auto axes = [](const StagePieces& stage, const RowLayout& layout) {
      Shape shape;
      for (const std::size_t axis : layout.channel_axes)
        shape.push_back(stage.pieces[0].tensor->shape[axis]);
      return shape;
    };
    const Shape narrow_axes = axes(narrow, narrow_layout);
    const Shape wide_axes = axes(wide, wide_layout);
    const Shape& named = narrow_axes.size() > 1 ? narrow_axes : wide_axes;
    pair.transforms.push_back(fmt::format(
        "{} holds it as {}", pair.a_is_wide ? "A" : "B",
        describe_channels(
            pair.source, static_cast<std::size_t>(width(wide, wide_layout)),
            width(wide, wide_layout) == width(narrow, narrow_layout) ? named : narrow_axes)));
  }

  const TraceSide& a_;
  const TraceSide& b_;
  const TokenMatch& tokens_;
  Pairing result_;
  std::set<const StagePieces*> used_a_;
  std::set<const StagePieces*> used_b_;
};

}  // namespace

std::string_view to_string(MatchedBy by) {
  constexpr std::string_view kNames[] = {"name", "content", "order"};
  return kNames[static_cast<std::size_t>(by)];
}

Pairing pair_stages(const TraceSide& a, const TraceSide& b, const TokenMatch& tokens) {
  return Pairer(a, b, tokens).run();
}

CommonRows common_rows(const TraceSide& a, const TraceSide& b, const StagePair& pair,
                       const TokenMatch& tokens, std::size_t most) {
  const auto positions_of = [&](const TraceSide& side, const StagePieces& stage,
                                const RowLayout& layout, std::int64_t shift) {
    std::vector<std::int64_t> list;
    for (const std::int64_t position : side.positions(stage, layout)) {
      if (position - shift >= tokens.first && position - shift < tokens.end)
        list.push_back(position - shift);
    }
    return list;
  };
  const auto left = positions_of(a, *pair.a, pair.a_layout, 0);
  const auto right = positions_of(b, *pair.b, pair.b_layout, tokens.shift);
  std::vector<std::int64_t> both;
  std::set_intersection(left.begin(), left.end(), right.begin(), right.end(),
                        std::back_inserter(both));
  if (most > 0 && both.size() > most) {
    std::vector<std::int64_t> some;
    for (std::size_t i = 0; i < most; ++i)
      some.push_back(both[i * (both.size() - 1) / (most - 1)]);
    both = std::move(some);
  }
  std::vector<std::int64_t> shifted = both;
  for (std::int64_t& position : shifted)
    position += tokens.shift;
  return {.a = a.gather(*pair.a, pair.a_layout, &both),
          .b = b.gather(*pair.b, pair.b_layout, &shifted)};
}

}  // namespace plumb
