// Hypotheses that no field says: a stage left out, a weight's rows read in another order, two operands exchanged.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "graph/builder.h"
#include "parity/changed_weights.h"
#include "parity/computing.h"
#include "parity/hypothesis.h"

namespace plumb {
namespace {

using Apply = std::function<bool(const BoundGraph&, int, double, Patch&)>;

Hypothesis structural(std::string row, std::string field, std::string cause, FieldValue expected,
                      FieldValue found, Apply apply) {
  return {.row = std::move(row),
          .field = std::move(field),
          .cause = std::move(cause),
          .expected = std::move(expected),
          .found = std::move(found),
          .range = std::nullopt,
          .apply = std::move(apply)};
}

// The stage hands its first input on unchanged.
template <class Operation>
bool leave_out(const BoundGraph& network, int index, double, Patch& patch) {
  Stage& stage = patched_stage(network, index, patch);
  if (!std::holds_alternative<Operation>(stage.operation)) return false;
  stage.operation = Add{.factor = 0};
  stage.inputs = {stage.inputs[0], stage.inputs[0]};
  stage.params.clear();
  return true;
}

// The rows of each head in llama.cpp's order (row 2i from i, 2i + 1 from half + i), or back.
std::vector<std::int64_t> head_order(std::int64_t rows, std::int64_t heads, bool interleave) {
  const std::int64_t size = rows / heads;
  std::vector<std::int64_t> order;
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t inside = row % size;
    const std::int64_t from = interleave
                                  ? (inside % 2) * (size / 2) + inside / 2
                                  : (inside < size / 2 ? 2 * inside : 2 * (inside - size / 2) + 1);
    order.push_back(row - inside + from);
  }
  return order;
}

bool projects_rotated(const Stage& stage) {
  return std::holds_alternative<Linear>(stage.operation) && (stage.name.ends_with("attn.q") || stage.name.ends_with("attn.k"));
}

// Converters reorder queries and keys, never values, whose family is theirs: each by its own count of heads, or both by one.
Apply reorder(std::optional<std::int64_t> one_count, bool interleave) {
  return [one_count, interleave](const BoundGraph& network, int index, double, Patch& patch) {
    const Stage& stage = stage_at(network, index);
    if (!projects_rotated(stage)) return false;
    const std::int64_t heads = one_count.value_or(stage.outputs[0].shape[0]);
    const std::int64_t rows = *element_count(stage.outputs[0].shape);
    if (rows % (2 * heads) != 0) return false;
    for (const int param : stage.params) {
      patch.weights[param] = reordered_rows(network.weights[static_cast<std::size_t>(param)],
                                            head_order(rows, heads, interleave));
    }
    return true;
  };
}

bool scale_weight(const BoundGraph& network, int index, double value, Patch& patch) {
  const Stage& stage = stage_at(network, index);
  if (!std::holds_alternative<Linear>(stage.operation)) return false;
  patch.weights[stage.params[0]] =
      scaled(network.weights[static_cast<std::size_t>(stage.params[0])], value);
  return true;
}

// mlx-lm adds the 1 of 1 + w to the weights when it loads or converts a checkpoint.
bool round_offset(const BoundGraph& network, int index, double, Patch& patch) {
  const Stage& stage = stage_at(network, index);
  const auto* norm = std::get_if<Norm>(&stage.operation);
  if (norm == nullptr || norm->weight_offset == 0 || stage.params.empty()) return false;
  patch.weights[stage.params[0]] = rounded_with_offset(
      network.weights[static_cast<std::size_t>(stage.params[0])], norm->weight_offset);
  return true;
}

Apply keep_columns(std::int64_t parts, std::int64_t part) {
  return [parts, part](const BoundGraph& network, int index, double, Patch& patch) {
    const Stage& stage = stage_at(network, index);
    if (!std::holds_alternative<Linear>(stage.operation)) return false;
    const WeightPtr& weight = network.weights[static_cast<std::size_t>(stage.params[0])];
    if (weight->row_length() % parts != 0) return false;
    const std::int64_t width = weight->row_length() / parts;
    patch.weights[stage.params[0]] = column_range(weight, part * width, width);
    return true;
  };
}

// The heads of the keys beside a projection of queries, or the reverse; the stage's own where there is none.
std::int64_t heads_beside(const BoundGraph& network, const Stage& stage) {
  const std::string role = stage.name.ends_with("attn.q") ? "attn.k" : "attn.q";
  for (const Stage& other : network.graph.stages) {
    if (other.layer == stage.layer && name_in_layer(other.name, other.layer) == role && other.outputs[0].shape.size() > 1)
      return other.outputs[0].shape[0];
  }
  return stage.outputs[0].shape[0];
}

void linear_hypotheses(const BoundGraph& network, int index, std::vector<Hypothesis>& list) {
  const Stage& stage = stage_at(network, index);
  if (projects_rotated(stage)) {
    const std::int64_t heads = stage.outputs[0].shape[0];
    list.push_back(
        structural("16", "linear.rows",
                   "the rows of each head are in interleaved order, the checkpoint's are in halves",
                   std::string("halves"), std::string("interleaved"), reorder(std::nullopt, true)));
    list.push_back(structural(
        "16", "linear.rows",
        "the rows of each head were put back from an interleaved order that they were not in",
        std::string("as stored"), std::string("de-interleaved"), reorder(std::nullopt, false)));
    // A converter that has one count of heads for both.
    const std::int64_t others = heads_beside(network, stage);
    for (const bool interleave : {true, false}) {
      if (others == heads) break;
      list.push_back(structural("16", "linear.rows", "the rows are reordered in heads of another count: the queries' for the keys, or the reverse",
                                std::string("as stored"), fmt::format("{} in {} heads", interleave ? "interleaved" : "de-interleaved", others),
                                reorder(others, interleave)));
      list.back().rarity = 0.5;
    }
  }
  list.push_back({.row = "20c",
                  .field = "linear.weight_scale",
                  .cause = "the weight is off by one constant factor",
                  .expected = 1.0,
                  .found = std::monostate{},
                  .range = Range{1e-6, 1e6, true, false, {2, 0.5, 16, 1.0 / 16}},
                  .apply = scale_weight});
  for (const std::int64_t parts : {2, 4}) {
    for (std::int64_t part = 0; part < parts; ++part) {
      list.push_back(structural(
          "58", "linear.shard",
          "only one shard of the input reached the sum: a reduction over ranks is missing",
          std::string("all ranks"),
          "rank " + std::to_string(part + 1) + " of " + std::to_string(parts),
          keep_columns(parts, part)));
    }
  }
}

// The two projections that meet in one gate exchange their weights.
bool swap_projections(const BoundGraph& network, int index, double, Patch& patch) {
  for (const Stage& gated : network.graph.stages) {
    if (!std::holds_alternative<Gated>(gated.operation)) continue;
    const int gate = gated.inputs[0].stage;
    const int up = gated.inputs[1].stage;
    if (gate != index && up != index) continue;
    const Stage& a = stage_at(network, gate);
    const Stage& b = stage_at(network, up);
    if (gate == up || a.params.empty() || !same_shapes(network, a.params, b.params)) return false;
    patched_stage(network, gate, patch).params = b.params;
    patched_stage(network, up, patch).params = a.params;
    return true;
  }
  return false;
}

bool swap_gate_inputs(const BoundGraph& network, int index, double, Patch& patch) {
  Stage& stage = patched_stage(network, index, patch);
  if (!std::holds_alternative<Gated>(stage.operation)) return false;
  // A gate of one number for each token fits only its own place.
  if (network.graph.output(stage.inputs[0]).shape != network.graph.output(stage.inputs[1]).shape) return false;
  std::swap(stage.inputs[0], stage.inputs[1]);
  return true;
}

bool swap_expert_weights(const BoundGraph& network, int index, double, Patch& patch) {
  Stage& stage = patched_stage(network, index, patch);
  const auto* experts = std::get_if<Experts>(&stage.operation);
  if (experts == nullptr) return false;
  const std::size_t stride = experts->bias ? 2 : 1;
  for (std::size_t i = 0; i + 3 * stride <= stage.params.size(); i += 3 * stride) {
    for (std::size_t part = 0; part < stride; ++part)
      std::swap(stage.params[i + part], stage.params[i + stride + part]);
  }
  return true;
}

bool other_head(const BoundGraph& network, int index, double, Patch& patch) {
  Stage& stage = patched_stage(network, index, patch);
  if (!std::holds_alternative<Logits>(stage.operation)) return false;
  for (const Stage& other : network.graph.stages) {
    if (!std::holds_alternative<Embed>(other.operation) || other.params[0] == stage.params[0])
      continue;
    const auto shape = [&](int param) {
      return network.graph.params[static_cast<std::size_t>(param)].shape;
    };
    if (shape(other.params[0]) != shape(stage.params[0])) return false;
    stage.params = other.params;
    return true;
  }
  return false;
}

bool drop_residual(const BoundGraph& network, int index, double, Patch& patch) {
  Stage& stage = patched_stage(network, index, patch);
  if (!std::holds_alternative<Add>(stage.operation)) return false;
  stage.operation = Add{.factor = 0};
  stage.inputs = {stage.inputs[1], stage.inputs[1]};
  return true;
}

// Row i of the gate and of the up projection from a fused matrix whose rows the suspect takes in another order: halves where they
// alternate, or the reverse.
std::vector<RowOf> refused_rows(std::int64_t width, bool up, bool stored_alternating) {
  std::vector<RowOf> order;
  for (std::int64_t i = 0; i < width; ++i) {
    // The place in the fused matrix from which the suspect reads, and what the checkpoint has there.
    const std::int64_t place = stored_alternating ? i + (up ? width : 0) : 2 * i + (up ? 1 : 0);
    order.push_back(
        stored_alternating
            ? RowOf{.weight = static_cast<std::size_t>(place % 2), .row = place / 2}
            : RowOf{.weight = static_cast<std::size_t>(place / width), .row = place % width});
  }
  return order;
}

void refuse(const BoundGraph& network, int gate, int up, bool alternating, Patch& patch) {
  const auto weight = [&](int param) { return network.weights[static_cast<std::size_t>(param)]; };
  const std::int64_t width = network.graph.params[static_cast<std::size_t>(gate)].shape[0];
  for (const bool is_up : {false, true}) {
    patch.weights[is_up ? up : gate] =
        rows_of({weight(gate), weight(up)}, refused_rows(width, is_up, alternating));
  }
}

Apply split_gate_and_up(bool alternating) {
  return [alternating](const BoundGraph& network, int index, double, Patch& patch) {
    const Stage& stage = stage_at(network, index);
    if (const auto* experts = std::get_if<Experts>(&stage.operation)) {
      const std::size_t stride = experts->bias ? 2 : 1;
      for (std::size_t i = 0; i + 3 * stride <= stage.params.size(); i += 3 * stride) {
        for (std::size_t part = 0; part < stride; ++part)
          refuse(network, stage.params[i + part], stage.params[i + stride + part], alternating,
                 patch);
      }
      return true;
    }
    for (const Stage& gated : network.graph.stages) {
      if (!std::holds_alternative<Gated>(gated.operation)) continue;
      const Stage& gate = stage_at(network, gated.inputs[0].stage);
      const Stage& up = stage_at(network, gated.inputs[1].stage);
      if (gated.inputs[0].stage != index && gated.inputs[1].stage != index) continue;
      if (!std::holds_alternative<Linear>(gate.operation) ||
          !std::holds_alternative<Linear>(up.operation) || gate.params.size() != up.params.size() ||
          gated.inputs[0].stage == gated.inputs[1].stage)
        return false;
      for (std::size_t i = 0; i < gate.params.size(); ++i) {
        if (network.graph.params[static_cast<std::size_t>(gate.params[i])].shape !=
            network.graph.params[static_cast<std::size_t>(up.params[i])].shape)
          return false;
        refuse(network, gate.params[i], up.params[i], alternating, patch);
      }
      return true;
    }
    return false;
  };
}

// Another norm of the same layer lends its weight.
Apply other_norm(std::string role) {
  return [role = std::move(role)](const BoundGraph& network, int index, double, Patch& patch) {
    const Stage& stage = stage_at(network, index);
    if (!std::holds_alternative<Norm>(stage.operation) || stage.params.empty()) return false;
    for (const Stage& other : network.graph.stages) {
      if (other.layer != stage.layer || name_in_layer(other.name, other.layer) != role ||
          !std::holds_alternative<Norm>(other.operation) || other.params.empty())
        continue;
      const auto shape = [&](int param) {
        return network.graph.params[static_cast<std::size_t>(param)].shape;
      };
      if (shape(other.params[0]) != shape(stage.params[0])) return false;
      patched_stage(network, index, patch).params = other.params;
      return true;
    }
    return false;
  };
}

// The norms of queries and keys with each other's weight, where both are changed.
bool swap_qk_norms(const BoundGraph& network, int index, double value, Patch& patch) {
  const Stage& stage = stage_at(network, index);
  const std::string role = name_in_layer(stage.name, stage.layer);
  if (role != "attn.q_norm" && role != "attn.k_norm") return false;
  return other_norm(role == "attn.q_norm" ? "attn.k_norm" : "attn.q_norm")(network, index, value, patch);
}

// The convention of the same stage in another kind of layer.
void borrowed_conventions(const BoundGraph& network, int index, std::vector<Hypothesis>& list) {
  const Stage& stage = stage_at(network, index);
  const bool rope = std::holds_alternative<Rope>(stage.operation);
  if (!rope && !std::holds_alternative<Attend>(stage.operation)) return;
  const auto described = [](const Stage& s) {
    std::string text;
    for (const Field& field : fields(s.operation))
      text += field.name + "=" + to_string(field.value) + ";";
    return text;
  };
  std::vector<std::string> seen{described(stage)};
  const std::string role = name_in_layer(stage.name, stage.layer);
  // Of a rotation in another role, the frequencies: compressed entries may be rotated as the window's tokens are.
  std::vector<Stage> others;
  for (const bool same : {true, false}) {
    for (const Stage& other : network.graph.stages) {
      if (other.operation.index() != stage.operation.index() || (name_in_layer(other.name, other.layer) == role) != same) continue;
      Stage lent = other;
      if (!same) {
        const auto* from = std::get_if<Rope>(&other.operation);
        if (from == nullptr || from->dims != std::get<Rope>(stage.operation).dims) continue;
        lent.operation = stage.operation;
        std::get<Rope>(lent.operation).frequencies = from->frequencies;
        std::get<Rope>(lent.operation).attention_factor = from->attention_factor;
      }
      others.push_back(std::move(lent));
    }
  }
  for (const Stage& other : others) {
    if (std::find(seen.begin(), seen.end(), described(other)) != seen.end()) continue;
    seen.push_back(described(other));
    list.push_back(structural(
        rope ? "31" : "43", rope ? "rope.layer_type" : "attend.layer_type",
        rope ? "the layer's rotation is that of the other kind of layer"
             : "the layer's attention is that of the other kind of layer",
        "as layer " + std::to_string(stage.layer), "as layer " + std::to_string(other.layer),
        [operation = other.operation](const BoundGraph& net, int target, double, Patch& patch) {
          Stage& changed = patched_stage(net, target, patch);
          if (changed.operation.index() != operation.index()) return false;
          const auto* old = std::get_if<Rope>(&changed.operation);
          const auto direction = old != nullptr ? old->direction : RopeDirection::kForward;
          changed.operation = operation;
          if (auto* now = std::get_if<Rope>(&changed.operation)) now->direction = direction;
          return true;
        }));
    list.back().rarity = 0.5;
  }
  if (!rope) return;
  // The scaling of the other kind with the layer's own base: one scaling for all layers.
  const RopeFrequencies& own = std::get<Rope>(stage.operation).frequencies;
  for (const Stage& other : others) {
    const auto& lent = std::get<Rope>(other.operation);
    if (other.layer == stage.layer || (lent.frequencies.scaling == own.scaling && lent.frequencies.factor == own.factor) ||
        lent.frequencies.theta == own.theta)
      continue;
    list.push_back(structural("32", "rope.scaling_of_layer", "the layer's rotation has the scaling of the other kind of layer",
                              "as layer " + std::to_string(stage.layer), "as layer " + std::to_string(other.layer),
                              [lent](const BoundGraph& net, int target, double, Patch& patch) {
                                auto* op = std::get_if<Rope>(&patched_stage(net, target, patch).operation);
                                if (op == nullptr) return false;
                                const double theta = op->frequencies.theta;
                                op->frequencies = lent.frequencies;
                                op->frequencies.theta = theta;
                                op->attention_factor = lent.attention_factor;
                                return true;
                              }));
    list.back().rarity = 0.5;
    return;
  }
}

}  // namespace

std::vector<Hypothesis> structural_hypotheses(const BoundGraph& network, int index) {
  const Stage& stage = stage_at(network, index);
  std::vector<Hypothesis> list;
  if (std::holds_alternative<Linear>(stage.operation)) {
    linear_hypotheses(network, index, list);
    Patch probe;
    if (swap_projections(network, index, 0, probe)) {
      list.push_back(structural("15", "gated.order", "the gate and up projections are exchanged",
                                std::string("gate, up"), std::string("up, gate"),
                                swap_projections));
    }
  }
  for (const bool alternating : {true, false}) {
    Patch probe;
    const bool experts = std::holds_alternative<Experts>(stage.operation);
    if ((experts || std::holds_alternative<Linear>(stage.operation)) &&
        split_gate_and_up(alternating)(network, index, 0, probe)) {
      const std::string halves = "halves";
      const std::string rows = "alternating rows";
      list.push_back(structural("15", experts ? "experts.split" : "gated.split",
                                "a fused gate and up projection is split in the other way",
                                alternating ? rows : halves, alternating ? halves : rows,
                                split_gate_and_up(alternating)));
      list.back().rarity = 1;
    }
  }
  borrowed_conventions(network, index, list);
  if (std::holds_alternative<Norm>(stage.operation)) {
    const std::string role = name_in_layer(stage.name, stage.layer);
    for (const std::string_view other : {"attn.q_norm", "attn.k_norm", "attn.norm", "mlp.norm",
                                         "attn.post_norm", "mlp.post_norm"}) {
      Patch probe;
      if (role == other || !other_norm(std::string(other))(network, index, 0, probe)) continue;
      list.push_back(structural(
          role.find("q_norm") != std::string::npos || role.find("k_norm") != std::string::npos
              ? "39"
              : "26",
          "norm.weight", "the norm has another norm's weight", role, std::string(other),
          other_norm(std::string(other))));
      list.back().rarity = 1;
    }
    const bool qk = stage.name.ends_with("q_norm") || stage.name.ends_with("k_norm");
    Patch swapped;
    if (swap_qk_norms(network, index, 0, swapped)) {
      list.push_back(structural("39", "norm.weight", "the norms of queries and keys have each other's weight", std::string("their own"),
                                std::string("each other's"), swap_qk_norms));
      list.back().rarity = 1.5;
    }
    list.push_back(structural(qk                     ? "39"
                              : stage.name == "norm" ? "29"
                                                     : "26",
                              "norm.present", "the norm is left out", true, false,
                              leave_out<Norm>));
    if (std::get<Norm>(stage.operation).weight_offset != 0) {
      list.push_back(structural("23", "norm.weight_sum",
                                "1 + w is rounded to bfloat16 before it multiplies",
                                std::string("float32"), std::string("bfloat16"), round_offset));
    }
  }
  if (std::holds_alternative<Rope>(stage.operation)) {
    const bool back = std::get<Rope>(stage.operation).direction == RopeDirection::kInverse;
    list.push_back(
        structural(back ? "61" : "35", "rope.present",
                   back ? "the attention output is not rotated back at the query's position"
                        : "the rotation is left out",
                   true, false, leave_out<Rope>));
  }
  if (std::holds_alternative<Clamp>(stage.operation)) {
    list.push_back(
        structural("50", "clamp.present", "the clamp is left out", true, false, leave_out<Clamp>));
  }
  if (Patch probe; swap_gate_inputs(network, index, 0, probe)) {
    list.push_back(structural("15", "gated.order", "gate and up are exchanged",
                              std::string("gate, up"), std::string("up, gate"), swap_gate_inputs));
  }
  if (std::holds_alternative<Experts>(stage.operation)) {
    list.push_back(
        structural("15", "experts.order", "the experts' gate and up weights are exchanged",
                   std::string("gate, up"), std::string("up, gate"), swap_expert_weights));
  }
  if (std::holds_alternative<Logits>(stage.operation)) {
    Patch probe;
    if (other_head(network, index, 0, probe)) {
      list.push_back(structural("19", "logits.weight",
                                "the head is the embedding, the checkpoint has a head of its own",
                                std::string("lm_head"), std::string("embed_tokens"), other_head));
    }
  }
  if (std::holds_alternative<Add>(stage.operation)) {
    list.push_back(structural("28", "add.residual", "the residual stream is not added", true, false,
                              drop_residual));
  }
  return list;
}

}  // namespace plumb
