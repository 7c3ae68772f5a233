// What an engine may do otherwise with compressed entries that no field says: what they are made of, and which are chosen.
#include <algorithm>
#include <cmath>
#include <limits>

#include "graph/builder.h"
#include "parity/changed_weights.h"
#include "parity/computing.h"
#include "reference/kernels.h"

namespace plumb {
namespace {

void to_softmax(std::span<double> row) {
  const double most = std::ranges::max(row);
  double total = 0;
  for (double& value : row)
    total += value = std::exp(value - most);
  for (double& value : row)
    value /= total;
}

void to_sigmoid(std::span<double> row) {
  for (double& value : row)
    value = 1 / (1 + std::exp(-value));
}

// Entries whose tokens count otherwise than by a softmax over the block: `weigh` turns a token's biased scores (each half of a
// token's channels on its own) into factors, whose products with the values are added.
Hypothesis weighed(std::string cause, std::string found, std::function<void(std::span<double>)> weigh, bool averaged) {
  return computing<Compress>(
      {"79", "compress.gate", std::move(cause), std::string("softmax over the block"), std::move(found)},
      [weigh = std::move(weigh), averaged](const Stage& s, const StageOperands& operands, const StageContext& context) {
        const auto& op = std::get<Compress>(s.operation);
        Tensor values = *operands.inputs[0];
        Tensor scores = *operands.inputs[1];
        const auto bias =
            op.position_bias ? reference::read_vector(*operands.weights[0], Numerics(Precision::kFp32)) : std::vector<double>{};
        const auto width = static_cast<std::size_t>(values.width());
        const std::size_t part = op.overlap ? width / 2 : width;
        for (std::int64_t t = 0; t < values.tokens(); ++t) {
          const auto slot =
              static_cast<std::size_t>(static_cast<std::int64_t>(operands.inputs[2]->data[static_cast<std::size_t>(t)]) % op.ratio);
          const auto row = scores.row(t);
          for (std::size_t d = 0; d < width && op.position_bias; ++d)
            row[d] += bias[slot * width + d];
          for (std::size_t first = 0; first < width; first += part)
            weigh(row.subspan(first, part));
          for (std::size_t d = 0; d < width; ++d)
            values.row(t)[d] *= row[d];
        }
        std::ranges::fill(scores.data, 0.0);
        Stage even = s;
        std::get<Compress>(even.operation).position_bias = false;
        StageOperands other = operands;
        other.inputs[0] = &values;
        other.inputs[1] = &scores;
        Outputs out = run_stage(even, other, context);
        for (std::int64_t b = 0; b < out[0].tokens() && !averaged; ++b) {
          const bool first = op.overlap && out[1].data[static_cast<std::size_t>(b)] == 0;
          for (double& value : out[0].row(b))
            value *= static_cast<double>(op.overlap && !first ? 2 * op.ratio : op.ratio);
        }
        return out;
      });
}

void gate_hypotheses(std::vector<Hypothesis>& list) {
  list.push_back(weighed(
      "an entry is the plain average of its tokens", "none", [](std::span<double> row) { std::ranges::fill(row, 1.0); }, true));
  list.push_back(
      weighed("the gate is a softmax over channels, not over the block's tokens", "softmax over channels", to_softmax, false));
  list.push_back(weighed("the gate is a sigmoid", "sigmoid", to_sigmoid, false));
}

void position_hypotheses(const Compress& op, std::vector<Hypothesis>& list) {
  const std::int64_t ratio = op.ratio;
  if (op.position_bias) {
    const auto biased = [&](std::string cause, std::string found, std::function<std::int64_t(std::int64_t)> place) {
      list.push_back(
          computing<Compress>({"65", "compress.bias_rows", std::move(cause), std::string("its place in the block"), std::move(found)},
                              [place = std::move(place)](const Stage& s, const StageOperands& operands, const StageContext& context) {
                                std::vector<std::int64_t> order;
                                for (std::int64_t i = 0; i < std::get<Compress>(s.operation).ratio; ++i)
                                  order.push_back(place(i));
                                StageOperands other = operands;
                                const WeightPtr bias = reordered_rows(borrowed(operands.weights[0]), order);
                                other.weights[0] = bias.get();
                                return run_stage(s, other, context);
                              }));
    };
    biased("each token has the position bias of the place before", "the one before",
           [ratio](std::int64_t i) { return (i + ratio - 1) % ratio; });
    biased("each token has the position bias of the next place", "the next", [ratio](std::int64_t i) { return (i + 1) % ratio; });
    biased("the position bias is read in reverse", "reversed", [ratio](std::int64_t i) { return ratio - 1 - i; });
  }
  const auto half = static_cast<double>(ratio / 2);
  const auto whole = static_cast<double>(ratio);
  list.push_back(
      scaling<Compress>({"67", "compress.position_offset", "a compressed entry is rotated at another position than its block's first token",
                         std::int64_t{0}, std::monostate{}},
                        Range{-whole, whole, false, true, {half, whole, -whole, 1, -1, half - 1, whole - 1}},
                        [](const Stage& s, const StageOperands& operands, const StageContext& context, double by) {
                          Outputs out = run_stage(s, operands, context);
                          for (double& position : out[1].data)
                            position += by;
                          return out;
                        }));
  list.push_back(computing<Compress>({"67", "compress.pass_positions", "the positions of entries begin anew with each pass",
                                      std::string("the sequence's"), std::string("the pass's")},
                                     [](const Stage& s, const StageOperands& operands, const StageContext& context) {
                                       Outputs out = run_stage(s, operands, context);
                                       const double first = out[1].data.empty() ? 0 : out[1].data.front();
                                       for (double& position : out[1].data)
                                         position -= first;
                                       return out;
                                     }));
  list.back().later = true;
}

void compress_hypotheses(const Stage& stage, std::vector<Hypothesis>& list) {
  gate_hypotheses(list);
  position_hypotheses(std::get<Compress>(stage.operation), list);
  if (!std::get<Compress>(stage.operation).overlap) return;
  list.push_back(computing<Compress>({"75", "compress.handover", "the block before is forgotten between passes", true, false},
                                     [](const Stage& s, const StageOperands& operands, const StageContext& context) {
                                       auto& block = std::get<Remainder>(*operands.states[0]);
                                       block.previous_values = Tensor({0, operands.inputs[0]->width()});
                                       block.previous_scores = block.previous_values;
                                       return run_stage(s, operands, context);
                                     }));
  list.back().later = true;
  list.push_back(computing<Compress>({"74", "compress.halves", "the halves for a token's own block and the next are exchanged",
                                      std::string("next, own"), std::string("own, next")},
                                     [](const Stage& s, const StageOperands& operands, const StageContext& context) {
                                       const auto exchange = [](const Tensor& x) {
                                         Tensor y = x;
                                         for (std::int64_t t = 0; t < y.tokens(); ++t)
                                           std::rotate(y.row(t).begin(), y.row(t).begin() + y.width() / 2, y.row(t).end());
                                         return y;
                                       };
                                       const Tensor values = exchange(*operands.inputs[0]);
                                       const Tensor scores = exchange(*operands.inputs[1]);
                                       StageOperands other = operands;
                                       other.inputs[0] = &values;
                                       other.inputs[1] = &scores;
                                       WeightPtr bias;
                                       if (!operands.weights.empty()) {
                                         bias = exchanged_halves(borrowed(operands.weights[0]));
                                         other.weights[0] = bias.get();
                                       }
                                       return run_stage(s, other, context);
                                     }));
  list.push_back(computing<Compress>({"75", "compress.overlap", "blocks do not overlap: the block before does not count", true, false},
                                     [](const Stage& s, const StageOperands& operands, const StageContext& context) {
                                       constexpr double kNever = -1e30;
                                       Tensor scores = *operands.inputs[1];
                                       for (std::int64_t t = 0; t < scores.tokens(); ++t)
                                         std::fill_n(scores.row(t).begin(), scores.width() / 2, kNever);
                                       return run_with_input(s, operands, context, 1, scores);
                                     }));
}

// The index chooses anew among the blocks that each query sees, by other scores than its own; a choice is judged by its scores.
Outputs chosen_anew(const Index& op, const StageOperands& operands, Outputs out,
                    const std::function<double(double score, std::size_t block)>& of) {
  for (std::int64_t t = 0; t < out[1].tokens(); ++t) {
    const auto visible = static_cast<std::size_t>(
        reference::visible_blocks(op.blocks, operands.inputs[3]->data[static_cast<std::size_t>(t)], operands.inputs[2]->tokens()));
    const auto scores = out[0].row(t).first(visible);
    for (std::size_t b = 0; b < visible; ++b)
      scores[b] = of(scores[b], b);
    std::ranges::copy(reference::largest(scores, std::min(visible, static_cast<std::size_t>(op.chosen))), out[1].row(t).begin());
  }
  return out;
}

Hypothesis chosen_by(std::string cause, std::string found, std::function<double(double score, std::size_t block)> of) {
  return computing<Index>(
      {"63", "index.choice", std::move(cause), std::string("largest score"), std::move(found)},
      [of = std::move(of)](const Stage& s, const StageOperands& operands, const StageContext& context) {
        return chosen_anew(std::get<Index>(s.operation), operands, run_stage(s, operands, context), of);
      });
}

void index_hypotheses(std::vector<Hypothesis>& list) {
  const auto weighing = [&](std::string cause, std::string found, std::function<void(std::span<double>)> change) {
    list.push_back(computing<Index>({"63", "index.weights", std::move(cause), std::string("as projected"), std::move(found)},
                                    with_rows(1, std::move(change))));
  };
  weighing("the index's heads are added without their weights", "1", [](std::span<double> row) { std::ranges::fill(row, 1.0); });
  weighing("the index's weights are a softmax over heads", "softmax", to_softmax);
  weighing("the index's weights are a sigmoid", "sigmoid", to_sigmoid);
  list.push_back(computing<Index>({"63", "index.rectified", "the index is rectified after the sum over heads, not before",
                                   std::string("each product"), std::string("the sum")},
                                  [](const Stage& s, const StageOperands& operands, const StageContext& context) {
                                    Stage plain = s;
                                    std::get<Index>(plain.operation).rectified = false;
                                    return chosen_anew(std::get<Index>(s.operation), operands, run_stage(plain, operands, context),
                                                       [](double score, std::size_t) { return std::max(score, 0.0); });
                                  }));
  list.push_back(chosen_by("the first blocks are kept, not the best", "the first",
                           [](double, std::size_t block) { return -static_cast<double>(block); }));
  list.push_back(chosen_by("the last blocks are kept, not the best", "the last",
                           [](double, std::size_t block) { return static_cast<double>(block); }));
  list.push_back(
      chosen_by("the blocks of the smallest scores are kept", "smallest score", [](double score, std::size_t) { return -score; }));
}

// Entries that complete in later passes do not join the list.
void collect_hypotheses(std::vector<Hypothesis>& list) {
  list.push_back(
      computing<Collect>({"82", "collect.added", "entries that are completed in later passes are not added to the list", true, false},
                         [](const Stage& s, const StageOperands& operands, const StageContext& context) {
                           const bool first = std::get<RowList>(*operands.states[0]).rows.tokens() == 0;
                           if (first) return run_stage(s, operands, context);
                           const Tensor none({0, operands.inputs[0]->shape[1]});
                           return run_with_input(s, operands, context, 0, none);
                         }));
  list.back().later = true;
}

// Each square of the matrix transposed: rows of the output in runs of the rows' length.
Outputs transposed_groups(const Stage& s, const StageOperands& operands, const StageContext& context) {
  const Weight& weight = *operands.weights[0];
  const Tensor& x = *operands.inputs[0];
  const std::int64_t n = weight.row_length();
  const std::int64_t in_group = weight.rows() / std::get<GroupedLinear>(s.operation).groups;
  Tensor rows({weight.rows(), n});
  for (std::int64_t r = 0; r < weight.rows(); ++r) {
    weight.read_row(r, rows.row(r));
    for (double& value : rows.row(r))
      value = context.numerics.parameter(value);
  }
  Tensor y = reference::tensor_like(x, s.outputs[0].shape);
  for (std::int64_t t = 0; t < x.tokens(); ++t) {
    for (std::int64_t o = 0; o < weight.rows(); ++o) {
      const auto part = x.row(t).subspan(static_cast<std::size_t>(o / in_group * n), static_cast<std::size_t>(n));
      double sum = 0;
      for (std::int64_t i = 0; i < n; ++i)
        sum += part[static_cast<std::size_t>(i)] * rows.row(o / n * n + i)[static_cast<std::size_t>(o % n)];
      y.row(t)[static_cast<std::size_t>(o)] = context.numerics.activation(sum);
    }
  }
  return {std::move(y)};
}

void group_hypotheses(std::vector<Hypothesis>& list) {
  const auto regrouped = [&](std::string cause, std::string found, bool of_heads) {
    list.push_back(computing<GroupedLinear>(
        {"80", of_heads ? "grouped_linear.heads" : "grouped_linear.out", std::move(cause), std::string("group by group"), std::move(found)},
        [of_heads](const Stage& s, const StageOperands& operands, const StageContext& context) {
          const std::int64_t groups = std::get<GroupedLinear>(s.operation).groups;
          // Place (g, i) of a token gets what stands at place (i, g).
          const auto dealt = [groups](const Tensor& x, std::int64_t units) {
            Tensor y = x;
            const std::int64_t each = units / groups;
            const std::int64_t size = x.width() / units;
            for (std::int64_t t = 0; t < x.tokens() && units % groups == 0; ++t) {
              for (std::int64_t u = 0; u < units; ++u)
                std::ranges::copy(
                    x.row(t).subspan(static_cast<std::size_t>((u % each * groups + u / each) * size), static_cast<std::size_t>(size)),
                    y.row(t).begin() + u * size);
            }
            return y;
          };
          StageOperands other = operands;
          const Tensor heads = of_heads ? dealt(*operands.inputs[0], operands.inputs[0]->shape[1]) : Tensor();
          if (of_heads) other.inputs[0] = &heads;
          Outputs out = run_stage(s, other, context);
          if (!of_heads) {  // the channels of all groups in turn: place (i, g) gets (g, i)
            const Tensor y = out[0];
            const std::int64_t each = y.width() / groups;
            for (std::int64_t t = 0; t < y.tokens(); ++t) {
              for (std::int64_t c = 0; c < y.width(); ++c)
                out[0].row(t)[static_cast<std::size_t>(c % each * groups + c / each)] = y.row(t)[static_cast<std::size_t>(c)];
            }
          }
          return out;
        }));
  };
  // The whole matrix where it is square, or each group's: runs of rows that are as long as a row.
  Hypothesis transposed = computing<GroupedLinear>(
      {"13", "grouped_linear.order", "the square weight is used transposed", std::string("out_in"), std::string("in_out")}, {});
  transposed.apply = [](const BoundGraph& network, int index, double, Patch& patch) {
    const Stage& stage = stage_at(network, index);
    if (!std::holds_alternative<GroupedLinear>(stage.operation)) return false;
    const Weight& weight = *network.weights[static_cast<std::size_t>(stage.params[0])];
    if (weight.rows() % weight.row_length() != 0) return false;
    patch.computations[index] = transposed_groups;
    return true;
  };
  list.push_back(std::move(transposed));
  regrouped("heads are dealt to the output's groups in turn, not in runs", "in turn", true);
  regrouped("the outputs of the groups alternate channel by channel", "channel by channel", false);
  list.push_back(computing<GroupedLinear>({"80", "grouped_linear.matrix", "the first group's matrix serves all groups",
                                           std::string("its own"), std::string("the first group's")},
                                          [](const Stage& s, const StageOperands& operands, const StageContext& context) {
                                            const auto& op = std::get<GroupedLinear>(s.operation);
                                            const std::int64_t rows = *element_count(op.out);
                                            std::vector<std::int64_t> order;
                                            for (std::int64_t r = 0; r < rows; ++r)
                                              order.push_back(r % (rows / op.groups));
                                            StageOperands other = operands;
                                            const WeightPtr matrix = reordered_rows(borrowed(operands.weights[0]), order);
                                            other.weights[0] = matrix.get();
                                            return run_stage(s, other, context);
                                          }));
}

}  // namespace

std::vector<Hypothesis> compressed_hypotheses(const BoundGraph& network, int index) {
  const Stage& stage = stage_at(network, index);
  std::vector<Hypothesis> list;
  if (std::holds_alternative<Compress>(stage.operation)) compress_hypotheses(stage, list);
  if (std::holds_alternative<Index>(stage.operation)) index_hypotheses(list);
  if (std::holds_alternative<Collect>(stage.operation)) collect_hypotheses(list);
  if (std::holds_alternative<GroupedLinear>(stage.operation)) group_hypotheses(list);
  return list;
}

}  // namespace plumb
