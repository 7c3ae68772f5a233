// What follows from a value tells which value it is. A faulty one is like the wrong stage (an activation that multiplies nothing is
// like the gate), or like none; at its right place the stages behind it, recomputed from it, are what the suspect has.
#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

#include "graph/print.h"
#include "parity/alignment.h"
#include "parity/captured_views.h"
#include "parity/name_words.h"
#include "parity/recompute.h"

namespace plumb {
namespace {

constexpr int kRounds = 8;           // moves at most
constexpr std::size_t kLayers = 3;   // in which a move is tried: those where values do not follow
constexpr int kImpossible = -1000000;
constexpr double kFollows = 1e-3;    // relative L2 of what follows from its inputs
constexpr double kFollowsCoarse = 3e-2;  // where the suspect holds two bytes

// The captured values and, of what enters a layer without having been captured, what was computed once.
class WithEntering final : public CapturedView {
 public:
  using CapturedView::CapturedView;
  std::shared_ptr<const CapturedValue> value(std::size_t step, std::string_view stage) const override {
    auto held = own_.value(step, stage);
    const auto found = entering_.find(stage);
    const bool entering = held == nullptr && step == 0 && found != entering_.end() && found->second.first != looked_at_;
    return entering ? found->second.second : held;
  }
  void hold(const Stage& stage, int output, const Tensor& values) {
    entering_[stage.outputs[static_cast<std::size_t>(output)].name] = {
        stage.layer, std::make_shared<CapturedValue>(CapturedValue{values, DType::kF32})};
  }
  // What leaves this layer is not held: it may be another under another alignment.
  void look_at(int layer) { looked_at_ = layer; }

 private:
  int looked_at_ = -2;
  std::map<std::string, std::pair<int, std::shared_ptr<const CapturedValue>>, std::less<>> entering_;
};

// Relative L2 over what neither side masks; 1 where one side alone does, and where both mask all: what is no number follows from anything.
double distance(const Tensor& y, const Tensor& f) {
  if (y.shape != f.shape || std::ranges::all_of(y.data, masked)) return 1;
  double apart = 0;
  double size = 0;
  for (std::size_t i = 0; i < y.data.size(); ++i) {
    if (masked(y.data[i]) != masked(f.data[i])) return 1;
    if (masked(y.data[i])) continue;
    apart += (y.data[i] - f.data[i]) * (y.data[i] - f.data[i]);
    size += f.data[i] * f.data[i];
  }
  return size > 0 ? std::sqrt(apart / size) : apart > 0 ? 1 : 0;
}

// A captured stage of one layer, and whether it follows from the values that are captured before it.
struct Followed {
  bool follows;
  std::set<int> span;          // the stages recomputed for it
  std::set<std::string> from;  // the captured ones that they read
};

struct Layer {
  std::map<std::string, Value> places;        // by role
  std::vector<Value> watched;                 // these, and what reads of them in another layer
  std::map<std::string, Followed> captured;   // by stage
  std::map<std::string, std::string> theirs;  // the suspect's names by their pattern; by themselves where they may stand behind the layers
  bool reaches_outside = false;               // what bears its number may stand behind the layers: `places` holds those stages too
};

// A pattern of the suspect's to a role; queries and keys may have to move together. Without patterns: the two roles' parts of one tensor
// are exchanged, where that gives the usual order.
using Move = std::vector<std::pair<std::string, std::string>>;

using Matches = std::map<std::string, Alignment, std::less<>>;

// What is forgotten of values that were read under another alignment.
using Forget = std::function<void(const std::string& stage)>;

// What attention reads is captured rather than what was on the way to it.
bool towards_reading(const std::string& from, const std::string& to) {
  for (const std::string letter : {"q", "k"}) {
    if (to == "attn." + letter + "_rope") return from == "attn." + letter || from == "attn." + letter + "_norm";
  }
  return false;
}

class Consequences {
 public:
  Consequences(const BoundGraph& network, const Trace& trace, const Captured& aligned, Matches& matches, Forget forget, ThreadPool& pool,
               const RunOrder& order, const Numbering& numbering, const std::vector<const StoredTensor*>& unknown)
      : network_(network),
        matches_(matches),
        forget_(std::move(forget)),
        pool_(pool),
        order_(order),
        entered_(aligned),
        tokens_(trace.steps()[0].count) {
    for (const StoredTensor* tensor : unknown) {
      const std::string theirs = without_step(tensor->name);
      tensors_.emplace(theirs, tensor);
      Layer& layer = layers_[numbering.layer(theirs)];
      const bool outside = numbering.may_be_outside(theirs);
      layer.theirs.emplace(outside ? theirs : pattern_of(theirs), theirs);  // where it stands says nothing of its like
      layer.reaches_outside = layer.reaches_outside || outside;
    }
    look_at_all(aligned);
  }

  // Makes the move after which most values follow; false where none is better than staying.
  bool improve() {
    std::map<Move, int> gains;
    for (const int number : troubled_) {
      for (const Move& move : moves(number)) {
        if (gains.contains(move)) continue;
        int& sum = gains[move];
        bool possible = false;
        for (const int other : troubled_) {
          const auto more = gain(other, move);
          sum += more.value_or(0);
          possible = possible || more;
        }
        if (!possible) sum = kImpossible;
      }
    }
    const Move* best = nullptr;
    for (const auto& [move, sum] : gains) {
      const bool tie = best == nullptr && sum == 0;  // other places that are as likely by what follows
      const auto likelier = [&] { return only_reading(move) || words_agree(move) || all_words_agree(move) || move.front().first.empty(); };
      if (sum > (best == nullptr ? 0 : gains.at(*best)) || (tie && likelier())) best = &move;
    }
    if (best == nullptr) return false;
    for (auto& [number, layer] : layers_) {
      std::set<std::string> changed;
      (void)make(number, *best, changed);
    }
    for (const int number : troubled_)
      look_at(number);
    return true;
  }

 private:
  bool is_two_bytes(const std::string& stage) const {
    const auto held = entered_.value(0, stage);
    return held && held->dtype != DType::kF32;
  }

  bool follows(Recompute& recompute, Value value) const {
    const std::string& name = network_.graph.output(value).name;
    const auto held = recompute.captured(0, value);
    return held && distance(held->values, recompute.computed(0, value)) <= (is_two_bytes(name) ? kFollowsCoarse : kFollows);
  }

  // What of other layers is recomputed from this one's values.
  void watch(int number, Layer& layer) {
    entered_.look_at(number);
    Recompute recompute(network_, entered_, Numerics(Precision::kFp32), pool_, nothing_);
    for (const auto& [role, value] : layer.places)
      layer.watched.push_back(value);
    for (int i = 2; i < static_cast<int>(network_.graph.stages.size()); ++i) {
      const Stage& stage = stage_at(i);
      const auto of_this = [&](int index) { return stage_at(index).layer == number; };
      const auto reads = [&](int index) {
        return of_this(index) || std::ranges::any_of(stage_at(index).inputs, [&](const Value input) { return of_this(input.stage); });
      };
      for (int o = 0; o < static_cast<int>(stage.outputs.size()) && stage.layer != number; ++o) {
        if (layer.places.contains(stage.outputs[static_cast<std::size_t>(o)].name)) continue;  // it is watched already
        const bool captured = recompute.captured(0, {i, o}) != nullptr;
        if (captured && std::ranges::any_of(recompute.span_of(0, {i, o}), reads)) layer.watched.push_back({i, o});
      }
    }
  }

  void add_places_behind(Layer& layer) {
    int last = 0;
    for (const auto& [role, value] : layer.places)
      last = std::max(last, value.stage);
    for (int i = last + 1; i < static_cast<int>(network_.graph.stages.size()); ++i) {
      for (int o = 0; o < static_cast<int>(stage_at(i).outputs.size()) && stage_at(i).layer < 0; ++o)
        layer.places[stage_at(i).outputs[static_cast<std::size_t>(o)].name] = {i, o};
    }
  }

  void look_at_all(const Captured& aligned) {
    Recompute all(network_, aligned, Numerics(Precision::kFp32), pool_, nothing_);
    for (int i = 2; i < static_cast<int>(network_.graph.stages.size()); ++i) {
      const Stage& stage = stage_at(i);
      const auto layer = layers_.find(stage.layer);
      if (layer == layers_.end()) continue;
      for (int o = 0; o < static_cast<int>(stage.outputs.size()); ++o)
        layer->second.places[name_in_layer(stage.outputs[static_cast<std::size_t>(o)].name, stage.layer)] = {i, o};
      for (const Value input : stage.inputs) {
        const bool inside = input.stage < 2 || stage_at(input.stage).layer == stage.layer;
        if (!inside && !all.captured(0, input)) entered_.hold(stage_at(input.stage), input.output, all.computed(0, input));
      }
    }
    for (auto& [number, layer] : layers_) {
      if (layer.reaches_outside) add_places_behind(layer);
      watch(number, layer);
      look_at(number);
      const bool all_follow = std::ranges::all_of(layer.captured, [](const auto& entry) { return entry.second.follows; });
      const bool all_placed = std::ranges::all_of(layer.theirs, [&](const auto& entry) { return !stages_of(entry.second).empty(); });
      if (!(all_follow && all_placed) && (layer.reaches_outside || troubled_.size() < kLayers)) troubled_.push_back(number);
    }
  }

  void look_at(int number) {
    Layer& layer = layers_.at(number);
    layer.captured.clear();
    entered_.look_at(number);
    Recompute recompute(network_, entered_, Numerics(Precision::kFp32), pool_, nothing_);
    for (const Value value : layer.watched) {
      const std::string& name = network_.graph.output(value).name;
      if (!matches_.contains(name) || !recompute.captured(0, value)) continue;
      Followed& followed = layer.captured[name];
      followed.follows = follows(recompute, value);
      for (const int index : recompute.span_of(0, value)) {
        followed.span.insert(index);
        for (const Value input : stage_at(index).inputs)
          followed.from.insert(network_.graph.output(input).name);
      }
    }
  }

  const Stage& stage_at(int index) const { return network_.graph.stages[static_cast<std::size_t>(index)]; }

  // The stages that one of the suspect's tensors is matched with.
  std::vector<std::string> stages_of(const std::string& theirs) const {
    std::vector<std::string> list;
    for (const auto& [stage, match] : matches_) {
      if (!match.by_name && match.theirs == theirs) list.push_back(stage);
    }
    return list;
  }

  bool is_free(const std::string& stage) const {
    const auto match = matches_.find(stage);
    return match == matches_.end() || (!match->second.by_name && stages_of(match->second.theirs).size() == 1);
  }

  // The layout under which a tensor is a stage's value; where axes are equally long, that under which it is most like what is recomputed there.
  Layout layout_for(const StoredTensor& tensor, const std::vector<Layout>& layouts, Value value) const {
    if (layouts.size() == 1) return layouts.front();
    Recompute recompute(network_, entered_, Numerics(Precision::kFp32), pool_, nothing_);
    return likest_layout(tensor, layouts, recompute.computed(0, value));
  }

  std::vector<Layout> layouts_at(const StoredTensor& tensor, const Output& output) const { return layouts_of(tensor, tokens_, output); }

  // Whether keys stand behind values of equal width in one tensor: in most engines they stand before them.
  bool in_unusual_order(const Layer& layer) const {
    const auto match_of = [&](const char* role) -> const Alignment* {
      const auto place = layer.places.find(role);
      const auto match = place == layer.places.end() ? matches_.end() : matches_.find(network_.graph.output(place->second).name);
      return match == matches_.end() || match->second.by_name ? nullptr : &match->second;
    };
    const Alignment* k = match_of("attn.k");
    const Alignment* v = match_of("attn.v");
    return k != nullptr && v != nullptr && k->theirs == v->theirs && k->token_shape == v->token_shape && v->layout.first < k->layout.first;
  }

  // Of the tensors that do not follow, or that something is recomputed from which does not.
  std::vector<Move> moves(int number) const {
    const Layer& layer = layers_.at(number);
    std::vector<Move> list;
    for (const auto& [pattern, theirs] : layer.theirs) {
      const auto at = stages_of(theirs);
      if (at.size() > 1) continue;  // several in one tensor
      const auto concerned = [&](const auto& entry) {
        return !entry.second.follows && (entry.first == at.front() || entry.second.from.contains(at.front()));
      };
      if (!at.empty() && std::ranges::none_of(layer.captured, concerned)) continue;
      for (const auto& [role, value] : layer.places) {
        const Output& output = network_.graph.output(value);
        if ((!at.empty() && output.name == at.front()) || !is_free(output.name) || layouts_at(*tensors_.at(theirs), output).empty())
          continue;
        list.push_back({{pattern, role}});
      }
    }
    std::vector<Move> pairs;
    if (in_unusual_order(layer)) {
      const Move exchange{{"", "attn.k"}, {"", "attn.v"}};
      pairs.push_back(exchange);
      for (const Move& k : list) {  // a key that is a value's was taken for another stage
        if (k[0].second == "attn.k_rope") pairs.push_back({exchange[0], exchange[1], k[0]});
      }
    }
    // Keys that are values' and values that are keys', of an engine that exchanges their weights and captures no key before its rotation.
    for (const Move& k : list) {
      for (const Move& v : list) {
        const bool there = k[0].second == "attn.k_rope" && v[0].second == "attn.v";
        if (there && stands_at(layer, k[0].first, "attn.v") && stands_at(layer, v[0].first, "attn.k"))
          pairs.push_back({k[0], v[0]});
      }
    }
    for (const Move& q : list) {
      for (const Move& k : list) {
        if (only_reading(q) && only_reading(k) && q[0].second == "attn.q_rope" && k[0].second == "attn.k_rope")
          pairs.push_back({q[0], k[0]});
      }
    }
    list.insert(list.end(), pairs.begin(), pairs.end());
    return list;
  }

  // Whether the suspect's tensor of this pattern is matched with the role's stage alone.
  bool stands_at(const Layer& layer, const std::string& pattern, const char* role) const {
    const auto place = layer.places.find(role);
    const auto at = stages_of(layer.theirs.at(pattern));
    return place != layer.places.end() && at.size() == 1 && at.front() == network_.graph.output(place->second).name;
  }

  // Whether each tensor of several is called more like the place that it is moved to than like the one where it is.
  bool all_words_agree(const Move& move) const {
    return move.size() > 1 && std::ranges::all_of(move, [&](const auto& part) {
      for (const auto& [number, layer] : layers_) {
        const auto theirs = layer.theirs.find(part.first);
        const auto place = layer.places.find(part.second);
        if (theirs == layer.theirs.end() || place == layer.places.end()) continue;
        const auto at = stages_of(theirs->second);
        const std::string& to = network_.graph.output(place->second).name;
        return at.size() == 1 && shared_words(theirs->second, to) > shared_words(theirs->second, at.front());
      }
      return false;
    });
  }

  // Whether every part of the move is towards what attention reads, from where the suspect's tensors are now.
  bool only_reading(const Move& move) const {
    return std::ranges::all_of(move, [&](const auto& part) {
      for (const auto& [number, layer] : layers_) {
        const auto theirs = layer.theirs.find(part.first);
        if (theirs == layer.theirs.end()) continue;
        const auto at = stages_of(theirs->second);
        return at.size() == 1 && towards_reading(name_in_layer(at.front(), number), part.second);
      }
      return false;
    });
  }

  // Whether a tensor and the one that stands where it is moved to are each called more like the other's place.
  bool words_agree(const Move& move) const {
    if (move.size() != 1) return false;
    const auto& [pattern, role] = move.front();
    for (const auto& [number, layer] : layers_) {
      const auto theirs = layer.theirs.find(pattern);
      const auto place = layer.places.find(role);
      if (theirs == layer.theirs.end() || place == layer.places.end()) continue;
      const std::string& to = network_.graph.output(place->second).name;
      const auto at = stages_of(theirs->second);
      const auto occupant = matches_.find(to);
      if (at.size() != 1 || occupant == matches_.end()) return false;
      const std::string& other = occupant->second.theirs;
      return shared_words(theirs->second, to) > shared_words(theirs->second, at.front()) && shared_words(other, at.front()) > shared_words(other, to);
    }
    return false;
  }

  // False where it cannot be made in this layer; `changed` receives the stages that hold another value then.
  bool make(int number, const Move& move, std::set<std::string>& changed) {
    const Layer& layer = layers_.at(number);
    if (move.front().first.empty()) {
      if (!in_unusual_order(layer)) return false;
      for (const auto& [pattern, role] : move)
        changed.insert(network_.graph.output(layer.places.at(role)).name);
      std::swap(matches_.at(*changed.begin()).layout, matches_.at(*changed.rbegin()).layout);
    }
    for (const auto& [pattern, role] : move) {
      if (pattern.empty()) continue;
      const auto theirs = layer.theirs.find(pattern);
      const auto place = layer.places.find(role);
      if (theirs == layer.theirs.end() || place == layer.places.end()) return false;
      const Output& output = network_.graph.output(place->second);
      const auto layouts = layouts_at(*tensors_.at(theirs->second), output);
      const auto from = stages_of(theirs->second);
      if (layouts.empty() || from.size() > 1 || !is_free(output.name)) return false;
      // What bears the last layer's number may stand behind the layers: nothing is exchanged between the two.
      const auto left = from.empty() ? layer.places.end() : layer.places.find(name_in_layer(from.front(), number));
      if (!from.empty() && left == layer.places.end()) return false;
      const Layout layout = layout_for(*tensors_.at(theirs->second), layouts, place->second);
      const auto occupant = matches_.extract(output.name);
      changed.insert(output.name);
      if (!from.empty()) {
        matches_.erase(from.front());
        changed.insert(from.front());
        const Output& free = network_.graph.output(left->second);
        if (!occupant.empty()) {
          const StoredTensor& other = *tensors_.at(occupant.mapped().theirs);
          if (const auto others = layouts_at(other, free); !others.empty()) {
            Alignment moved{.theirs = occupant.mapped().theirs, .layout = {}, .token_shape = free.shape, .by_name = false};
            moved.layout = layout_for(other, others, left->second);
            matches_.insert({free.name, std::move(moved)});
          }
        }
      }
      Alignment moved{.theirs = theirs->second, .layout = {}, .token_shape = output.shape, .by_name = false};
      moved.layout = layout;
      matches_.insert({output.name, std::move(moved)});
    }
    for (const std::string& stage : changed)
      forget_(stage);
    return true;
  }

  bool in_order(const Layer& layer) const {
    std::map<std::string, int> known;
    for (const auto& [role, value] : layer.places) {
      const auto match = matches_.find(network_.graph.output(value).name);
      if (match != matches_.end()) known.insert_or_assign(match->second.theirs, value.stage);
    }
    return order_.holds(known);
  }

  // How many more values of the layer follow after the move; nothing where it cannot be made.
  std::optional<int> gain(int number, const Move& move) {
    const Layer& layer = layers_.at(number);
    entered_.look_at(number);
    const Matches before = matches_;
    std::set<std::string> changed;
    const bool ordered = in_order(layer);
    std::optional<int> gained;
    if (make(number, move, changed) && (!ordered || in_order(layer))) {
      int more = 0;
      Recompute recompute(network_, entered_, Numerics(Precision::kFp32), pool_, nothing_);
      for (const Value value : layer.watched) {
        const std::string& name = network_.graph.output(value).name;
        const auto known = layer.captured.find(name);
        const auto concerns = [&](const std::string& other) {
          return other == name || (known != layer.captured.end() &&
                                   (known->second.from.contains(other) ||
                                    known->second.span.contains(layer.places.at(name_in_layer(other, number)).stage)));
        };
        if (std::ranges::none_of(changed, concerns)) continue;
        more -= known != layer.captured.end() && known->second.follows ? 1 : 0;
        more += matches_.contains(name) && follows(recompute, value) ? 1 : 0;
      }
      gained = more;
    }
    matches_ = before;
    for (const std::string& stage : changed)
      forget_(stage);
    return gained;
  }

  const BoundGraph& network_;
  Matches& matches_;
  Forget forget_;
  ThreadPool& pool_;
  const RunOrder& order_;
  WithEntering entered_;
  std::int64_t tokens_;
  Patch nothing_;
  std::map<std::string, const StoredTensor*> tensors_;  // by the suspect's names
  std::map<int, Layer> layers_;
  std::vector<int> troubled_;
};

}  // namespace

void AlignedTrace::match_by_consequence(const BoundGraph& network, ThreadPool& pool, const RunOrder& order,
                                        const std::vector<const StoredTensor*>& unknown) {
  const auto forget = [this](const std::string& stage) {
    for (std::size_t step = 0; step < trace_.steps().size(); ++step)
      held_.erase({step, stage});
  };
  held_.clear();
  Consequences consequences(network, trace_, *this, matches_, forget, pool, order, numbering_, unknown);
  for (int round = 0; round < kRounds && consequences.improve(); ++round) {
  }
}

}  // namespace plumb
