// Matching by content. The reference's values come from the ids alone, so that a fault upstream moves them apart from the
// suspect's; the right stage still correlates best among those of its layer and shape.
#include "parity/alignment.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <tuple>
#include <utility>

#include "graph/print.h"
#include "parity/captured_views.h"
#include "parity/name_words.h"
#include "parity/recompute.h"
#include "parity/ties.h"

namespace plumb {
namespace {

constexpr double kLeastCorrelation = 0.35;

// Stages whose outputs a fused tensor may hold, one after another.
constexpr std::string_view kFused[][3] = {
    {"attn.q", "attn.k", "attn.v"}, {"mlp.gate", "mlp.up", ""}, {"mlp.up", "mlp.gate", ""}, {"attn.q", "attn.v", "attn.k"}};

// A pattern of the suspect's as a role of the graph, over all layers that have both: where one layer is at fault, the others tell.
struct Group {
  struct Member {
    int stage;
    const Output* output;
    std::string theirs;
    Layout layout;
    double score;
  };
  double sum = 0;  // of the layers' scores
  double most = 0;
  bool fused = false;
  DType dtype = DType::kF32;
  std::vector<Member> members;
};

// One token at position 0 is the same before a rotation and behind it, and its values are what attention makes of them: the next passes of one
// token tell such stages apart.
std::vector<std::size_t> further_passes(const Trace& trace) {
  constexpr std::size_t kEnough = 3;
  std::vector<std::size_t> list;
  for (std::size_t step = 1; step < trace.steps().size() && list.size() < kEnough; ++step) {
    if (trace.fed_ids(step).empty()) break;
    if (trace.steps()[step].count == 1) list.push_back(step);
  }
  return list;
}

}  // namespace

AlignedTrace::AlignedTrace(const Trace& trace, const BoundGraph& network, ThreadPool& pool)
    : trace_(trace) {
  std::set<std::string> known;
  for (const Stage& stage : network.graph.stages) {
    for (const Output& output : stage.outputs)
      known.insert(output.name);
  }
  known.insert({"logprobs", "logprobs.ids"});  // of the trace format, though no stage yields them
  const RunOrder order(network, trace.manifest().stages);
  std::vector<std::string> names;
  for (const StoredTensor& tensor : trace.tensors())
    names.push_back(without_step(tensor.name));
  numbering_ = Numbering(names, network.graph.layers());
  std::vector<const StoredTensor*> unknown;
  for (const StoredTensor& tensor : trace.tensors()) {
    if (tensor.name.rfind("0/", 0) != 0) continue;
    const std::string name = without_step(tensor.name);
    if (known.contains(name)) {
      matches_.insert(
          {name, Alignment{.theirs = name, .layout = {}, .token_shape = {}, .by_name = true}});
    } else if (element_count(tensor.shape).value_or(0) > 0) {
      unknown.push_back(&tensor);
    }
  }
  if (!unknown.empty() && !trace.steps().empty() && !trace.fed_ids(0).empty()) {
    match_by_content(network, IdsOnly(trace_), pool, order, unknown, true);
    // What a fault moved apart from the reference is still what follows from the suspect's own values, or stands where one stage
    // alone can stand.
    for (std::size_t before = 0; before < matches_.size();) {
      before = matches_.size();
      held_.clear();
      match_by_content(network, *this, pool, order, unknown, true);
      if (matches_.size() == before) match_by_size(network, order, unknown, pool, true);
    }
    match_by_content(network, *this, pool, order, unknown, false);
    held_.clear();
  }
  if (!unknown.empty() && !trace.steps().empty()) {
    match_by_size(network, order, unknown, pool, false);
    if (!trace.fed_ids(0).empty()) match_by_consequence(network, pool, order, unknown);
    match_choices(network, unknown);
    held_.clear();
  }
  ties_ = ties_of(network, *this, pool);
  std::set<std::string> used;
  for (const auto& [stage, match] : matches_)
    used.insert(match.theirs);
  for (const StoredTensor* tensor : unknown) {
    if (!used.contains(without_step(tensor->name)))
      unmatched_.push_back(without_step(tensor->name));
  }
}

std::map<std::string, int> AlignedTrace::known_stages(const BoundGraph& network) const {
  std::map<std::string, int> list;
  for (int i = 0; i < static_cast<int>(network.graph.stages.size()); ++i) {
    for (const Output& output : network.graph.stages[static_cast<std::size_t>(i)].outputs) {
      const auto match = matches_.find(output.name);
      if (match != matches_.end()) list.insert_or_assign(match->second.theirs, i);
    }
  }
  return list;
}

void AlignedTrace::match_by_content(const BoundGraph& network, const Captured& from,
                                    ThreadPool& pool, const RunOrder& order,
                                    const std::vector<const StoredTensor*>& unknown, bool exact) {
  const Patch nothing;
  Recompute reference(network, from, Numerics(Precision::kFp32), pool, nothing);
  const std::int64_t tokens = trace_.steps()[0].count;
  const std::vector<std::size_t> telling = tokens == 1 ? further_passes(trace_) : std::vector<std::size_t>{};
  std::map<std::pair<int, std::string>, Value> by_role;
  for (int i = 0; i < static_cast<int>(network.graph.stages.size()); ++i) {
    const Stage& stage = network.graph.stages[static_cast<std::size_t>(i)];
    for (int o = 0; o < static_cast<int>(stage.outputs.size()); ++o) {
      by_role[{stage.layer, name_in_layer(stage.outputs[static_cast<std::size_t>(o)].name,
                                          stage.layer)}] = {i, o};
    }
  }
  std::set<std::pair<std::string, std::int64_t>>
      used;  // a suspect's tensor and the first channel taken of it
  for (const auto& [stage, match] : matches_)
    used.insert({match.theirs, match.layout.first});
  using Key = std::tuple<std::string, std::string, std::vector<std::size_t>, std::int64_t>;
  std::map<Key, Group> groups;
  std::map<std::string, double> best;  // score of a suspect's tensor
  const auto score_in = [&](std::size_t step, const StoredTensor& tensor, Value value, const Layout& layout) {
    const Tensor& ours = reference.computed(step, value);
    const Tensor arrangement =
        arranged(tensor, layout, Shape(ours.shape.begin() + 1, ours.shape.end()));
    return arrangement.shape == ours.shape ? correlation(arrangement, ours) : 0;
  };
  const auto score_of = [&](const StoredTensor& tensor, Value value, const Layout& layout) {
    double sum = score_in(0, tensor, value, layout);
    int passes = 1;
    for (const std::size_t step : telling) {
      const StoredTensor* later = trace_.find(step, without_step(tensor.name));
      if (later == nullptr || later->shape != tensor.shape) continue;
      sum += score_in(step, *later, value, layout);
      ++passes;
    }
    return sum / passes;
  };
  const auto consider = [&](const StoredTensor& tensor, int layer, const std::string& role,
                            const Layout& layout, double score, bool fused) {
    const Output& output = network.graph.output(by_role.at({layer, role}));
    const std::string theirs = without_step(tensor.name);
    Group& group = groups[{pattern_of(theirs), role, layout.axes, layout.first}];
    group.sum += std::max(score, 0.0);
    group.most = std::max(group.most, score);
    group.fused = group.fused || fused;
    group.dtype = tensor.dtype;
    group.members.push_back({by_role.at({layer, role}).stage, &output, theirs, layout, score});
    best[theirs] = std::max(best[theirs], score);
  };
  const auto known = [&](int layer, const std::string& role) {
    const auto place = by_role.find({layer, role});
    return place == by_role.end() || matches_.contains(network.graph.output(place->second).name);
  };
  for (const StoredTensor* tensor : unknown) {
    const std::string theirs = without_step(tensor->name);
    const int layer = numbering_.layer(theirs);
    const bool outside = numbering_.may_be_outside(theirs);
    const std::int64_t width = *element_count(tensor->shape) / std::max<std::int64_t>(tokens, 1);
    for (const auto& axes : axis_orders(tensor->shape, tokens)) {
      for (const auto& [key, value] : by_role) {
        if ((key.first != layer && !(outside && key.first < 0)) || value.stage < 2 || known(key.first, key.second) ||
            used.contains({theirs, 0}) || !may_be_wide(network.graph.output(value), width) ||
            reference.computed(0, value).width() != width)
          continue;
        const Layout layout{axes, 0, width};
        consider(*tensor, key.first, key.second, layout, score_of(*tensor, value, layout), false);
      }
      for (const auto& parts : kFused) {
        const bool unusual = parts[1] == "attn.v";  // nothing but the very values says so
        std::vector<std::pair<std::string, Layout>> pieces;
        std::int64_t total = 0;
        for (const std::string_view part : parts) {
          const auto place = by_role.find({layer, std::string(part)});
          if (place == by_role.end()) continue;
          const std::int64_t count =
              element_count(network.graph.output(place->second).shape).value_or(0);
          pieces.emplace_back(part, Layout{axes, total, count});
          total += count;
        }
        if (total != width || pieces.size() < 2 || (unusual && !exact)) continue;
        // Where some parts of a tensor are known, so are the others.
        std::vector<double> scores;
        for (const auto& [role, layout] : pieces)
          scores.push_back(score_of(*tensor, by_role.at({layer, role}), layout));
        const double mean =
            std::accumulate(scores.begin(), scores.end(), 0.0) / static_cast<double>(scores.size());
        for (std::size_t i = 0; i < pieces.size(); ++i) {
          if (!known(layer, pieces[i].first) && !used.contains({theirs, pieces[i].second.first}))
            consider(*tensor, layer, pieces[i].first, pieces[i].second, unusual ? scores[i] : std::max(scores[i], mean), true);
        }
      }
    }
  }
  // Of stages that look alike (a stream before and after a small branch) the one that is the same to the last digits somewhere.
  const auto closeness = [](double correlation) {
    constexpr double kDigits = 7;
    constexpr double kWeight = 0.5;
    const double digits = -std::log10(std::max(1 - correlation, 1e-12));
    return kWeight * std::clamp(digits / kDigits, 0.0, 1.0);
  };
  struct Ranked {
    double score;
    const Group* group;
  };
  std::vector<Ranked> ranked;
  for (const auto& [key, group] : groups) {
    constexpr double kSame = 1e-7;  // what rounding in the suspect's type may leave
    constexpr double kSameCoarse = 1e-4;
    const double left = group.dtype == DType::kF32 ? kSame : kSameCoarse;
    if (group.most < (exact ? 1 - left : kLeastCorrelation)) continue;
    // A name decides between stages that correlate almost alike; more where a fault lies between the two.
    const double name_weight = exact ? 0.2 : 0.6;
    constexpr double kFusedWeight = 0.2;  // a part of several that fit is no accident
    const Group::Member& one = group.members.front();
    // What attention reads is captured rather than what was on the way to it.
    constexpr double kReadWeight = 0.3;
    const bool read = !exact && one.output->name.ends_with("_rope");
    ranked.push_back({group.sum / static_cast<double>(group.members.size()) +
                          closeness(group.most) + (group.fused ? kFusedWeight : 0) +
                          (read ? kReadWeight : 0) +
                          name_weight * shared_words(one.theirs, one.output->name),
                      &group});
  }
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const Ranked& a, const Ranked& b) { return a.score > b.score; });
  auto known_so_far = known_stages(network);
  const bool ordered = order.holds(known_so_far);
  for (const Ranked& one : ranked) {
    for (const auto& [stage, output, theirs, layout, score] : one.group->members) {
      // What may stand in either of two places stands where it is most alike.
      constexpr double kAlike = 1e-3;
      if (numbering_.may_be_outside(theirs) && score < best.at(theirs) - kAlike) continue;
      const bool another = std::ranges::any_of(
          one.group->members, [&, place = output, own = score](const Group::Member& other) { return other.output == place && other.score > own; });
      if (another) continue;
      if (matches_.contains(output->name) || used.contains({theirs, layout.first}) ||
          (!exact && ordered && !one.group->fused && !order.allows(theirs, stage, known_so_far)))
        continue;
      used.insert({theirs, layout.first});
      known_so_far.insert_or_assign(theirs, stage);
      matches_.insert({output->name, Alignment{.theirs = theirs,
                                               .layout = layout,
                                               .token_shape = output->shape,
                                               .by_name = false}});
    }
  }
}

// Of a router that chooses more or fewer than it should, ids and weights have a width that no stage has.
void AlignedTrace::match_choices(const BoundGraph& network, const std::vector<const StoredTensor*>& unknown) {
  const std::int64_t tokens = trace_.steps()[0].count;
  const auto known = known_stages(network);
  for (const Stage& stage : network.graph.stages) {
    const auto* router = std::get_if<Router>(&stage.operation);
    if (router == nullptr || matches_.contains(stage.outputs[1].name) || matches_.contains(stage.outputs[2].name)) continue;
    std::map<std::int64_t, std::pair<const StoredTensor*, const StoredTensor*>> by_width;  // ids, weights
    for (const StoredTensor* tensor : unknown) {
      const std::string theirs = without_step(tensor->name);
      if (known.contains(theirs) || numbering_.layer(theirs) != stage.layer || tensor->shape.size() != 2 || tensor->shape[0] != tokens ||
          tensor->shape[1] > router->experts)
        continue;
      const Tensor values = Trace::read(*tensor);
      const bool ids = std::ranges::all_of(
          values.data, [&](double x) { return x == std::floor(x) && x >= 0 && x < static_cast<double>(router->experts); });
      const bool weights = std::ranges::all_of(values.data, [](double x) { return x >= 0; });
      auto& pair = by_width[tensor->shape[1]];
      if (ids) pair.first = tensor;
      if (!ids && weights) pair.second = tensor;
    }
    for (const auto& [width, pair] : by_width) {
      if (pair.first == nullptr || width == router->chosen) continue;
      for (const auto& [tensor, output] : {std::pair(pair.first, 1), std::pair(pair.second, 2)}) {
        if (tensor == nullptr) continue;
        Alignment match;
        match.theirs = without_step(tensor->name);
        match.layout = {.axes = {0, 1}, .first = 0, .count = width};
        match.token_shape = {width};
        matches_.emplace(stage.outputs[static_cast<std::size_t>(output)].name, std::move(match));
      }
    }
  }
}

// What correlates with nothing may still be known: by its size where one stage of its layer alone has it, else by its name's
// words. A fault that leaves nothing of the reference's content must not go unseen. `sure`: only what the order and the size leave
// no choice about.
void AlignedTrace::match_by_size(const BoundGraph& network, const RunOrder& order,
                                 const std::vector<const StoredTensor*>& unknown, ThreadPool& pool, bool sure) {
  const Patch nothing;
  Recompute reference(network, *this, Numerics(Precision::kFp32), pool, nothing);
  const std::int64_t tokens = trace_.steps()[0].count;
  std::set<std::string> used;
  for (const auto& [stage, match] : matches_)
    used.insert(match.theirs);
  auto known = known_stages(network);
  const bool ordered = order.holds(known);
  if (sure && !(ordered && order.tells())) return;
  for (const StoredTensor* tensor : unknown) {
    const std::string theirs = without_step(tensor->name);
    if (used.contains(theirs)) continue;
    const auto layouts = axis_orders(tensor->shape, tokens);
    if (layouts.empty()) continue;
    const int layer = numbering_.layer(theirs);
    const std::int64_t width = *element_count(tensor->shape) / std::max<std::int64_t>(tokens, 1);
    std::vector<const Output*> best;  // one, or the parts of a fused tensor
    double most = 0;
    int fitting = 0;
    std::map<std::string, Value> roles;  // that nothing is matched with
    for (std::size_t i = 2; i < network.graph.stages.size(); ++i) {
      const Stage& stage = network.graph.stages[i];
      if (stage.layer != layer) continue;
      for (std::size_t o = 0; o < stage.outputs.size(); ++o) {
        const Output& output = stage.outputs[o];
        if (!output.per_token || matches_.contains(output.name) ||
            (ordered && !order.allows(theirs, static_cast<int>(i), known)))
          continue;
        roles[name_in_layer(output.name, layer)] = {static_cast<int>(i), static_cast<int>(o)};
        if (element_count(output.shape) != width) continue;
        ++fitting;
        const double words = shared_words(theirs, output.name);
        if (!best.empty() && words <= most) continue;
        best = {&output};
        most = words;
      }
    }
    for (const auto& parts : kFused) {
      std::vector<const Output*> pieces;
      std::int64_t total = 0;
      for (const std::string_view part : parts) {
        const auto place = roles.find(std::string(part));
        if (place == roles.end()) continue;
        pieces.push_back(&network.graph.output(place->second));
        total += element_count(pieces.back()->shape).value_or(0);
      }
      if (!sure || pieces.size() < 2 || total != width || parts[0] == "mlp.up" || parts[1] == "attn.v") continue;
      ++fitting;
      best = std::move(pieces);
    }
    if (best.empty() || (fitting > 1 && (sure || most <= 0))) continue;
    std::int64_t first = 0;
    for (const Output* output : best) {
      const std::int64_t count = element_count(output->shape).value_or(0);
      const Value value = roles.at(name_in_layer(output->name, layer));
      const auto own = layouts_of(*tensor, tokens, *output);
      std::vector<std::size_t> axes = layouts.front();
      if (best.size() == 1 && own.size() == 1) axes = own.front().axes;
      if (best.size() == 1 && own.size() > 1 && !trace_.fed_ids(0).empty())
        axes = likest_layout(*tensor, own, reference.computed(0, value)).axes;
      Alignment match{.theirs = theirs, .layout = {}, .token_shape = output->shape, .by_name = false};
      match.layout.axes = std::move(axes);
      match.layout.first = first;
      match.layout.count = count;
      matches_.insert({output->name, std::move(match)});
      known.insert_or_assign(theirs, value.stage);
      first += count;
    }
  }
  held_.clear();
}

std::shared_ptr<const CapturedValue> AlignedTrace::value(std::size_t step,
                                                         std::string_view stage) const {
  const auto key = std::make_pair(step, std::string(stage));
  const std::lock_guard lock(reading_);
  if (const auto found = held_.find(key); found != held_.end()) return found->second;
  std::shared_ptr<const CapturedValue> result;
  const auto match = matches_.find(stage);
  if (match == matches_.end() || match->second.by_name) {
    result = trace_.value(step, stage);
  } else if (const StoredTensor* stored = trace_.find(step, match->second.theirs)) {
    Layout layout = match->second.layout;
    const bool same_rank =
        std::all_of(layout.axes.begin(), layout.axes.end(),
                    [&](std::size_t axis) { return axis < stored->shape.size(); });
    if (same_rank && !layout.axes.empty() &&
        stored->shape[layout.axes[0]] == trace_.steps()[step].count) {
      Shape token_shape = match->second.token_shape;
      if (std::find(token_shape.begin(), token_shape.end(), kAnyLength) !=
          token_shape.end()) {  // as long as this step's
        token_shape.clear();
        for (std::size_t i = 1; i < layout.axes.size(); ++i)
          token_shape.push_back(stored->shape[layout.axes[i]]);
        layout.count = element_count(token_shape).value_or(0);
      }
      const std::int64_t width =
          *element_count(stored->shape) / std::max<std::int64_t>(stored->shape[layout.axes[0]], 1);
      if (layout.first + layout.count <= width && element_count(token_shape) == layout.count) {
        result = std::make_shared<CapturedValue>(
            CapturedValue{arranged(*stored, layout, token_shape), stored->dtype});
      }
    }
  }
  return held_[key] = std::move(result);
}

}  // namespace plumb
