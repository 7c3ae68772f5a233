// Faults that no row of the catalogue describes, planted in our own executor: what must come out "unexplained".
#pragma once
#include <cmath>
#include <random>

#include "mutations.h"

namespace plumb::mutations {

struct UnknownFault {
  std::string text;
  Patch patch;
  int stage;  // at which it must be seen first
};

// The output of the first of these roles that the network's second layer has, or its first; stage -1 where none has it.
inline Value output_with(const BoundGraph& network, std::initializer_list<std::string_view> roles) {
  for (const int least : {1, 0}) {
    for (int i = 2; i < static_cast<int>(network.graph.stages.size()); ++i) {
      const Stage& stage = network.graph.stages[static_cast<std::size_t>(i)];
      for (int o = 0; o < static_cast<int>(stage.outputs.size()) && stage.layer >= least; ++o) {
        const std::string& name = stage.outputs[static_cast<std::size_t>(o)].name;
        if (std::ranges::find(roles, name_in_layer(name, stage.layer)) != roles.end())
          return {i, o};
      }
    }
  }
  return {-1, 0};
}

// What a stage computes, with one output changed.
template <class Change>
Computation changing(int output, Change change) {
  return [output, change](const Stage& stage, const StageOperands& operands,
                          const StageContext& context) {
    std::vector<Tensor> outputs = run_stage(stage, operands, context);
    change(outputs[static_cast<std::size_t>(output)], operands);
    return outputs;
  };
}

inline std::vector<UnknownFault> unknown_faults(const BoundGraph& network) {
  std::vector<UnknownFault> list;
  const auto add = [&](std::string text, Value value, auto change) {
    if (value.stage < 0) return;
    list.push_back({.text = std::move(text), .patch = {}, .stage = value.stage});
    list.back().patch.computations[value.stage] = changing(value.output, change);
  };
  const Value projection = output_with(network, {"attn.v", "attn.kv", "linear.qkv"});
  const Value context = output_with(network, {"attn.context"});
  const Value out = output_with(network, {"attn.out"});
  const Value act = output_with(network, {"mlp.act", "mlp.out"});
  const Value down = output_with(network, {"mlp.out"});
  const Value residual = output_with(network, {"residual", "streams"});

  add("one element of a weight is another", projection,
      [](Tensor& y, const StageOperands& operands) {
        for (std::int64_t t = 0; t < y.tokens(); ++t)
          y.row(t)[3] += 0.4 * operands.inputs[0]->row(t)[5];
      });
  add("one head is noisy", context, [](Tensor& y, const StageOperands&) {
    std::mt19937 random(7);
    const std::int64_t width = y.shape.back();
    for (std::int64_t t = 0; t < y.tokens(); ++t) {
      for (std::int64_t c = 0; c < width; ++c) {
        const double unit = static_cast<double>(random()) / 0x1p32 - 0.5;
        y.row(t)[static_cast<std::size_t>(c)] *= 1 + 0.1 * unit;
      }
    }
  });
  add("one token's value is lost", projection, [](Tensor& y, const StageOperands&) {
    if (y.tokens() > 7) std::ranges::fill(y.row(7), 0.0);
  });
  add("the residual stream is never negative", residual, [](Tensor& y, const StageOperands&) {
    for (double& value : y.data)
      value = std::max(value, 0.0);
  });
  add("a constant is added to one channel", out, [](Tensor& y, const StageOperands&) {
    for (std::int64_t t = 0; t < y.tokens(); ++t)
      y.row(t)[4] += 0.05;
  });
  add("a block of a layer's output is transposed", down, [](Tensor& y, const StageOperands&) {
    const std::int64_t side = std::min<std::int64_t>({y.tokens(), y.width(), 8});
    for (std::int64_t a = 0; a < side; ++a) {
      for (std::int64_t b = 0; b < a; ++b)
        std::swap(y.row(a)[static_cast<std::size_t>(b)], y.row(b)[static_cast<std::size_t>(a)]);
    }
  });
  add("every seventh channel is damped", act, [](Tensor& y, const StageOperands&) {
    for (std::int64_t t = 0; t < y.tokens(); ++t) {
      for (std::size_t c = 0; c < y.row(t).size(); c += 7)
        y.row(t)[c] *= 0.8;
    }
  });
  add("channels are one place away", down, [](Tensor& y, const StageOperands&) {
    for (std::int64_t t = 0; t < y.tokens(); ++t)
      std::ranges::rotate(y.row(t), y.row(t).begin() + 1);
  });
  add("values are rounded to tenths", out, [](Tensor& y, const StageOperands&) {
    for (double& value : y.data)
      value = std::round(10 * value) / 10;
  });
  add("the logits are tilted", network.graph.logits, [](Tensor& y, const StageOperands&) {
    for (std::int64_t t = 0; t < y.tokens(); ++t) {
      for (std::size_t c = 0; c < y.row(t).size(); ++c)
        y.row(t)[c] += 0.1 * static_cast<double>(c) / static_cast<double>(y.row(t).size());
    }
  });
  return list;
}

}  // namespace plumb::mutations
