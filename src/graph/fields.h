// Every field of every operation and state, by its name: for whoever prints conventions or changes one of them.
//   visit_fields(norm, [](std::string_view name, auto& value) { … });   // "eps", then "eps_place", …
// Fields of a field are called frequencies.theta. The structured bindings make a field that is left out here an error.
#pragma once
#include <concepts>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>

#include "graph/graph.h"

namespace plumb {

// T is Operation or const Operation.
template <class T, class Operation>
concept FieldsOf = std::same_as<std::remove_const_t<T>, Operation>;

template <FieldsOf<RopeFrequencies> T>
void visit_fields(T& op, auto&& field) {
  auto& [scaling, theta, factor, original_length, low_freq_factor, high_freq_factor, beta_fast,
         beta_slow, truncate, short_factor, long_factor, divisors] = op;
  field("scaling", scaling);
  field("theta", theta);
  field("factor", factor);
  field("original_length", original_length);
  field("low_freq_factor", low_freq_factor);
  field("high_freq_factor", high_freq_factor);
  field("beta_fast", beta_fast);
  field("beta_slow", beta_slow);
  field("truncate", truncate);
  field("short_factor", short_factor);
  field("long_factor", long_factor);
  field("divisors", divisors);
}

template <FieldsOf<ExpertGroups> T>
void visit_fields(T& op, auto&& field) {
  auto& [groups, chosen, largest, excluded] = op;
  field("groups", groups);
  field("chosen", chosen);
  field("largest", largest);
  field("excluded", excluded);
}

template <FieldsOf<Blocks> T>
void visit_fields(T& op, auto&& field) {
  auto& [ratio, ahead] = op;
  field("ratio", ratio);
  field("ahead", ahead);
}

// The fields of `inner` under its own name.
void visit_inner_fields(std::string_view name, auto& inner, auto&& field) {
  visit_fields(inner, [&](std::string_view inner_name, auto& value) {
    field(std::string(name) + "." + std::string(inner_name), value);
  });
}

// The same; where nothing is set, its name alone with a std::monostate.
void visit_optional_fields(std::string_view name, auto& inner, auto&& field) {
  std::monostate nothing;
  if (inner) {
    visit_inner_fields(name, *inner, field);
  } else {
    field(name, nothing);
  }
}

template <FieldsOf<Tokens> T>
void visit_fields(T& /*op*/, auto&& /*field*/) {}

template <FieldsOf<Positions> T>
void visit_fields(T& /*op*/, auto&& /*field*/) {}

template <FieldsOf<Embed> T>
void visit_fields(T& op, auto&& field) {
  auto& [scale, scale_precision] = op;
  field("scale", scale);
  field("scale_precision", scale_precision);
}

template <FieldsOf<Norm> T>
void visit_fields(T& op, auto&& field) {
  auto& [eps, eps_place, weight_offset, centre, span, rounding] = op;
  field("eps", eps);
  field("eps_place", eps_place);
  field("weight_offset", weight_offset);
  field("centre", centre);
  field("span", span);
  field("rounding", rounding);
}

template <FieldsOf<Linear> T>
void visit_fields(T& op, auto&& field) {
  auto& [out, bias, order, result] = op;
  field("out", out);
  field("bias", bias);
  field("order", order);
  field("result", result);
}

template <FieldsOf<Rope> T>
void visit_fields(T& op, auto&& field) {
  auto& [pairing, slice, direction, dims, frequencies, attention_factor, position_offset,
         arithmetic, tables] = op;
  field("pairing", pairing);
  field("slice", slice);
  field("direction", direction);
  field("dims", dims);
  visit_inner_fields("frequencies", frequencies, field);
  field("attention_factor", attention_factor);
  field("position_offset", position_offset);
  field("arithmetic", arithmetic);
  field("tables", tables);
}

template <FieldsOf<Attend> T>
void visit_fields(T& op, auto&& field) {
  auto& [scale, groups, window, soft_cap, sinks, future] = op;
  field("scale", scale);
  field("groups", groups);
  field("window", window);
  field("soft_cap", soft_cap);
  field("sinks", sinks);
  field("future", future);
}

template <FieldsOf<Gated> T>
void visit_fields(T& op, auto&& field) {
  auto& [activation, limit, limit_sides, sigmoid_slope, up_offset] = op;
  field("activation", activation);
  field("limit", limit);
  field("limit_sides", limit_sides);
  field("sigmoid_slope", sigmoid_slope);
  field("up_offset", up_offset);
}

template <FieldsOf<Activate> T>
void visit_fields(T& op, auto&& field) {
  auto& [activation] = op;
  field("activation", activation);
}

template <FieldsOf<Slice> T>
void visit_fields(T& op, auto&& field) {
  auto& [out, groups, first] = op;
  field("out", out);
  field("groups", groups);
  field("first", first);
}

template <FieldsOf<Concat> T>
void visit_fields(T& /*op*/, auto&& /*field*/) {}

template <FieldsOf<JoinHeads> T>
void visit_fields(T& /*op*/, auto&& /*field*/) {}

template <FieldsOf<Convolution> T>
void visit_fields(T& op, auto&& field) {
  auto& [taps, order, activation, activation_place, window, bias] = op;
  field("taps", taps);
  field("order", order);
  field("activation", activation);
  field("activation_place", activation_place);
  field("window", window);
  field("bias", bias);
}

template <FieldsOf<L2Norm> T>
void visit_fields(T& op, auto&& field) {
  auto& [eps, eps_place, scale, precision] = op;
  field("eps", eps);
  field("eps_place", eps_place);
  field("scale", scale);
  field("precision", precision);
}

template <FieldsOf<LogDecay> T>
void visit_fields(T& op, auto&& field) {
  auto& [rate, rate_precision, sum_precision] = op;
  field("rate", rate);
  field("rate_precision", rate_precision);
  field("sum_precision", sum_precision);
}

template <FieldsOf<DeltaRule> T>
void visit_fields(T& op, auto&& field) {
  auto& [form, chunk, groups, decay, read, strength, held, state_precision] = op;
  field("form", form);
  field("chunk", chunk);
  field("groups", groups);
  field("decay", decay);
  field("read", read);
  field("strength", strength);
  field("held", held);
  field("state_precision", state_precision);
}

template <FieldsOf<GatedNorm> T>
void visit_fields(T& op, auto&& field) {
  auto& [norm, activation, place, gate_precision] = op;
  visit_inner_fields("norm", norm, field);
  field("activation", activation);
  field("place", place);
  field("gate_precision", gate_precision);
}

template <FieldsOf<Add> T>
void visit_fields(T& op, auto&& field) {
  auto& [factor] = op;
  field("factor", factor);
}

template <FieldsOf<Clamp> T>
void visit_fields(T& op, auto&& field) {
  auto& [limit] = op;
  field("limit", limit);
}

template <FieldsOf<Router> T>
void visit_fields(T& op, auto&& field) {
  auto& [experts, chosen, choice, score, order, selection_bias, groups, renormalise, sum_epsilon,
         scale, arithmetic, precision] = op;
  field("experts", experts);
  field("chosen", chosen);
  field("choice", choice);
  field("score", score);
  field("order", order);
  field("selection_bias", selection_bias);
  visit_optional_fields("groups", groups, field);
  field("renormalise", renormalise);
  field("sum_epsilon", sum_epsilon);
  field("scale", scale);
  field("arithmetic", arithmetic);
  field("precision", precision);
}

template <FieldsOf<Experts> T>
void visit_fields(T& op, auto&& field) {
  auto& [experts, width, gated, bias] = op;
  field("experts", experts);
  field("width", width);
  visit_inner_fields("gated", gated, field);
  field("bias", bias);
}

template <FieldsOf<AttendShared> T>
void visit_fields(T& op, auto&& field) {
  auto& [scale, window, sinks, blocks, chosen] = op;
  field("scale", scale);
  field("window", window);
  field("sinks", sinks);
  visit_optional_fields("blocks", blocks, field);
  field("chosen", chosen);
}

template <FieldsOf<Compress> T>
void visit_fields(T& op, auto&& field) {
  auto& [ratio, overlap, position_bias, before_first, position] = op;
  field("ratio", ratio);
  field("overlap", overlap);
  field("position_bias", position_bias);
  field("before_first", before_first);
  field("position", position);
}

template <FieldsOf<Collect> T>
void visit_fields(T& /*op*/, auto&& /*field*/) {}

template <FieldsOf<Index> T>
void visit_fields(T& op, auto&& field) {
  auto& [blocks, chosen, rectified, score_scale, weight_scale] = op;
  visit_inner_fields("blocks", blocks, field);
  field("chosen", chosen);
  field("rectified", rectified);
  field("score_scale", score_scale);
  field("weight_scale", weight_scale);
}

template <FieldsOf<Repeat> T>
void visit_fields(T& op, auto&& field) {
  auto& [copies] = op;
  field("copies", copies);
}

template <FieldsOf<HyperConnection> T>
void visit_fields(T& op, auto&& field) {
  auto& [streams, mixes, norm_eps, eps, post_scale, iterations, start] = op;
  field("streams", streams);
  field("mixes", mixes);
  field("norm_eps", norm_eps);
  field("eps", eps);
  field("post_scale", post_scale);
  field("iterations", iterations);
  field("start", start);
}

template <FieldsOf<Collapse> T>
void visit_fields(T& /*op*/, auto&& /*field*/) {}

template <FieldsOf<Mix> T>
void visit_fields(T& op, auto&& field) {
  auto& [incoming] = op;
  field("incoming", incoming);
}

template <FieldsOf<GroupedLinear> T>
void visit_fields(T& op, auto&& field) {
  auto& [out, groups] = op;
  field("out", out);
  field("groups", groups);
}

template <FieldsOf<Narrow> T>
void visit_fields(T& op, auto&& field) {
  auto& [format, channels, block, floor] = op;
  field("format", format);
  field("channels", channels);
  field("block", block);
  field("floor", floor);
}

template <FieldsOf<Hadamard> T>
void visit_fields(T& /*op*/, auto&& /*field*/) {}

template <FieldsOf<Logits> T>
void visit_fields(T& op, auto&& field) {
  auto& [soft_cap, scale] = op;
  field("soft_cap", soft_cap);
  field("scale", scale);
}

template <FieldsOf<KeyValueState> T>
void visit_fields(T& op, auto&& field) {
  auto& [heads, key_dim, value_dim] = op;
  field("heads", heads);
  field("key_dim", key_dim);
  field("value_dim", value_dim);
}

template <FieldsOf<ConvolutionState> T>
void visit_fields(T& op, auto&& field) {
  auto& [channels, taps] = op;
  field("channels", channels);
  field("taps", taps);
}

template <FieldsOf<RecurrentState> T>
void visit_fields(T& op, auto&& field) {
  auto& [heads, key_dim, value_dim] = op;
  field("heads", heads);
  field("key_dim", key_dim);
  field("value_dim", value_dim);
}

template <FieldsOf<WindowState> T>
void visit_fields(T& op, auto&& field) {
  auto& [width, window] = op;
  field("width", width);
  field("window", window);
}

template <FieldsOf<RemainderState> T>
void visit_fields(T& op, auto&& field) {
  auto& [width, tokens] = op;
  field("width", width);
  field("tokens", tokens);
}

template <FieldsOf<ListState> T>
void visit_fields(T& op, auto&& field) {
  auto& [width, ratio] = op;
  field("width", width);
  field("ratio", ratio);
}

}  // namespace plumb
