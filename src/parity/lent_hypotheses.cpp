// Weights and inputs that another place lends: those of another layer, another projection's bias, what stands before a norm.
#include <algorithm>

#include "graph/builder.h"
#include "parity/changed_weights.h"
#include "parity/computing.h"

namespace plumb {
namespace {

// The stage of the same role in another layer; -1 where there is none.
int in_layer(const BoundGraph& network, int index, int layer) {
  const Stage& stage = stage_at(network, index);
  const std::string role = name_in_layer(stage.name, stage.layer);
  const auto& stages = network.graph.stages;
  const auto place = std::ranges::find_if(
      stages, [&](const Stage& other) { return other.layer == layer && name_in_layer(other.name, layer) == role; });
  return place == stages.end() ? -1 : static_cast<int>(place - stages.begin());
}

// Which other layer, told from the own one.
struct Other {
  const char* words;
  int (*layer)(int own, int layers);
};

constexpr Other kPrevious{"the layer before's", [](int own, int) { return own - 1; }};
constexpr Other kNext{"the layer behind's", [](int own, int) { return own + 1; }};
constexpr Other kFirst{"the first layer's", [](int, int) { return 0; }};
constexpr Other kLast{"the last layer's", [](int, int layers) { return layers - 1; }};

// The stage takes its weights from there. `whole`: all stages of its layer do.
bool lend(const BoundGraph& network, int index, const Other& from, bool whole, Patch& patch) {
  const int own = stage_at(network, index).layer;
  const int layers = network.graph.layers();
  const int other = from.layer(own, layers);
  if (own < 0 || other < 0 || other >= layers || other == own) return false;
  bool any = false;
  for (int i = 0; i < static_cast<int>(network.graph.stages.size()); ++i) {
    const Stage& stage = stage_at(network, i);
    if (stage.layer != own || stage.params.empty() || (i != index && !whole)) continue;
    const int lender = in_layer(network, i, other);
    if (lender < 0 || !same_shapes(network, stage.params, stage_at(network, lender).params)) return false;
    patched_stage(network, i, patch).params = stage_at(network, lender).params;
    any = true;
  }
  return any;
}

// A layer computes with the weights of the next, and that one with its own.
bool exchange_with_next(const BoundGraph& network, int index, double, Patch& patch) {
  const int next = in_layer(network, index, stage_at(network, index).layer + 1);
  return next >= 0 && lend(network, index, kNext, true, patch) && lend(network, next, kPrevious, true, patch);
}

// Told at the first stage of a layer that has weights.
bool begins_layer(const BoundGraph& network, int index) {
  const Stage& stage = stage_at(network, index);
  if (stage.layer < 0 || stage.params.empty()) return false;
  for (int i = 0; i < index; ++i) {
    if (stage_at(network, i).layer == stage.layer && !stage_at(network, i).params.empty()) return false;
  }
  return true;
}

void layer_hypotheses(const BoundGraph& network, int index, std::vector<Hypothesis>& list) {
  const Stage& stage = stage_at(network, index);
  const bool norm = std::holds_alternative<Norm>(stage.operation) && !stage.params.empty() && stage.layer >= 0;
  const bool begins = begins_layer(network, index);
  if (begins) {
    add_where_it_applies(network, index, list,
                         {.row = "28",
                          .field = "layer.order",
                          .cause = "two layers that follow each other are exchanged",
                          .expected = std::string("in their order"),
                          .found = std::string("exchanged"),
                          .range = std::nullopt,
                          .apply = exchange_with_next,
                          .rarity = 0.5});
  }
  for (const Other* other : {&kPrevious, &kNext, &kFirst, &kLast}) {
    for (const bool whole : {false, true}) {
      if (whole ? !begins : !norm) continue;
      list.push_back({.row = whole ? "28" : "26",
                      .field = whole ? "layer.weights" : "norm.weight",
                      .cause = whole ? "the layer computes with another layer's weights" : "the norm has another layer's weight",
                      .expected = std::string("its own"),
                      .found = std::string(other->words),
                      .range = std::nullopt,
                      .apply = [other, whole](const BoundGraph& net, int target, double, Patch& patch) {
                        if (!whole && !std::holds_alternative<Norm>(stage_at(net, target).operation)) return false;
                        return lend(net, target, *other, whole, patch);
                      },
                      .rarity = 1.5});
    }
  }
}

// A bias that is added twice, or another projection's.
void bias_hypotheses(const BoundGraph& network, int index, std::vector<Hypothesis>& list) {
  const auto has_bias = [](const BoundGraph& net, int target) {
    const Stage& stage = stage_at(net, target);
    return std::holds_alternative<Linear>(stage.operation) && stage.params.size() == 2;
  };
  if (!has_bias(network, index)) return;
  list.push_back({.row = "18",
                  .field = "linear.bias",
                  .cause = "the bias is added twice",
                  .expected = std::int64_t{1},
                  .found = std::int64_t{2},
                  .range = std::nullopt,
                  .apply = [has_bias](const BoundGraph& net, int target, double, Patch& patch) {
                    if (!has_bias(net, target)) return false;
                    const int bias = stage_at(net, target).params[1];
                    patch.weights[bias] = scaled(net.weights[static_cast<std::size_t>(bias)], 2);
                    return true;
                  },
                  .rarity = 1});
  const Stage& stage = stage_at(network, index);
  for (const Stage& other : network.graph.stages) {
    if (other.layer != stage.layer || other.name == stage.name || !std::holds_alternative<Linear>(other.operation) || other.params.size() != 2 ||
        !same_shapes(network, {stage.params[1]}, {other.params[1]}))
      continue;
    const std::string role = name_in_layer(other.name, other.layer);
    list.push_back({.row = "18",
                    .field = "linear.bias",
                    .cause = "another projection's bias is added",
                    .expected = std::string("its own"),
                    .found = role,
                    .range = std::nullopt,
                    .apply = [has_bias, role](const BoundGraph& net, int target, double, Patch& patch) {
                      if (!has_bias(net, target)) return false;
                      const Stage& own = stage_at(net, target);
                      for (const Stage& lender : net.graph.stages) {
                        if (lender.layer != own.layer || name_in_layer(lender.name, lender.layer) != role || lender.params.size() != 2) continue;
                        if (!same_shapes(net, {own.params[1]}, {lender.params[1]})) return false;
                        patched_stage(net, target, patch).params[1] = lender.params[1];
                        return true;
                      }
                      return false;
                    },
                    .rarity = 1});
  }
}

// What reads a norm's output reads its input: the norm is right by itself.
void bypass_hypotheses(const BoundGraph& network, int index, std::vector<Hypothesis>& list) {
  const auto bypass = [](const BoundGraph& net, int target, double, Patch& patch) {
    const Stage& stage = stage_at(net, target);
    const bool reads = std::holds_alternative<Linear>(stage.operation) || std::holds_alternative<Logits>(stage.operation) ||
                       std::holds_alternative<Experts>(stage.operation);
    if (!reads || stage.inputs.empty()) return false;
    const Stage& source = stage_at(net, stage.inputs[0].stage);
    if (!std::holds_alternative<Norm>(source.operation)) return false;
    patched_stage(net, target, patch).inputs[0] = source.inputs[0];
    return true;
  };
  add_where_it_applies(network, index, list,
                       {.row = std::holds_alternative<Logits>(stage_at(network, index).operation) ? "29" : "26",
                        .field = "norm.bypassed",
                        .cause = "what came into the norm is read, not what it gave",
                        .expected = std::string("normalised"),
                        .found = std::string("as it came"),
                        .range = std::nullopt,
                        .apply = bypass,
                        .rarity = 1});
}

}  // namespace

std::vector<Hypothesis> lent_hypotheses(const BoundGraph& network, int index) {
  std::vector<Hypothesis> list;
  layer_hypotheses(network, index, list);
  bias_hypotheses(network, index, list);
  bypass_hypotheses(network, index, list);
  return list;
}

}  // namespace plumb
