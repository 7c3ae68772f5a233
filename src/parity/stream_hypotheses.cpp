// What an engine may do otherwise with several residual streams that no field says: how their weights are made, and what they weigh.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "graph/builder.h"
#include "parity/changed_weights.h"
#include "parity/computing.h"

namespace plumb {
namespace {

// A hyper-connection with other parameters: [outputs, streams * channels], [outputs], [3] or [1].
struct Parameters {
  WeightPtr fn;
  WeightPtr base;
  WeightPtr scale;
};

Outputs run_with(const Stage& stage, const StageOperands& operands, const StageContext& context, const Parameters& other) {
  StageOperands changed = operands;
  changed.weights = {other.fn.get(), other.base.get(), other.scale.get()};
  return run_stage(stage, changed, context);
}

Parameters parameters(const StageOperands& operands) {
  return {borrowed(operands.weights[0]), borrowed(operands.weights[1]), borrowed(operands.weights[2])};
}

using ParameterChange = std::function<void(const HyperConnection& op, Parameters& parameters)>;

Hypothesis with_parameters(CauseName name, ParameterChange change) {
  return computing<HyperConnection>(
      std::move(name), [change = std::move(change)](const Stage& stage, const StageOperands& operands, const StageContext& context) {
        Parameters other = parameters(operands);
        change(std::get<HyperConnection>(stage.operation), other);
        return run_with(stage, operands, context, other);
      });
}

// The order of the rows under which rows and columns of the mixing matrix trade places.
std::vector<std::int64_t> transposed(std::int64_t n) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(2 * n));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  for (std::int64_t i = 0; i < n * n; ++i)
    order.push_back(2 * n + i % n * n + i / n);
  return order;
}

void reorder(const std::vector<std::int64_t>& order, Parameters& parameters) {
  parameters.fn = reordered_rows(parameters.fn, order);
  parameters.base = reordered_rows(parameters.base, order);
}

// The softmax runs over columns: all of it on the transposed matrix, transposed back.
Hypothesis softmax_of_columns(SinkhornStart start) {
  return computing<HyperConnection>(
      {"69", "hyper_connection.softmax", "the mixing matrix begins as a softmax of columns, not of rows", std::string("rows"),
       std::string(start == SinkhornStart::kRows ? "columns, then columns" : "columns, then rows")},
      [start](const Stage& stage, const StageOperands& operands, const StageContext& context) {
        const auto& op = std::get<HyperConnection>(stage.operation);
        if (!op.mixes) return run_stage(stage, operands, context);
        Stage turned = stage;
        std::get<HyperConnection>(turned.operation).start = start;
        Parameters other = parameters(operands);
        reorder(transposed(op.streams), other);
        Outputs out = run_with(turned, operands, context, other);
        const auto n = static_cast<std::size_t>(op.streams);
        for (std::int64_t t = 0; t < out[2].tokens(); ++t) {
          const auto row = out[2].row(t);
          for (std::size_t i = 0; i < n; ++i) {
            for (std::size_t j = 0; j < i; ++j)
              std::swap(row[i * n + j], row[j * n + i]);
          }
        }
        return out;
      });
}

// The parts of a hyper-connection's parameters are stored one after another; the suspect takes them in another order.
Hypothesis split_order(std::string found, std::array<int, 3> parts) {
  return with_parameters({"76", "hyper_connection.split", "the hyper-connection's weights are split in another order",
                          std::string("pre, post, comb"), std::move(found)},
                         [parts](const HyperConnection& op, Parameters& all) {
                           if (!op.mixes) return;
                           const std::int64_t n = op.streams;
                           const std::array<std::int64_t, 3> sizes = {n, n, n * n};
                           std::array<std::vector<std::int64_t>, 3> rows;
                           std::vector<std::int64_t> scales(3);
                           std::int64_t at = 0;
                           for (int place = 0; place < 3; ++place) {
                             const auto part = static_cast<std::size_t>(parts[static_cast<std::size_t>(place)]);
                             scales[part] = place;
                             for (std::int64_t i = 0; i < sizes[part]; ++i)
                               rows[part].push_back(at++);
                           }
                           std::vector<std::int64_t> order;
                           for (const auto& part : rows)
                             order.insert(order.end(), part.begin(), part.end());
                           reorder(order, all);
                           all.scale = reordered_rows(all.scale, scales);
                         });
}

// The norm of all streams is undone or done otherwise: `change` makes of a token's streams what is projected.
Hypothesis projected(std::string cause, FieldValue expected, FieldValue found,
                     std::function<void(const HyperConnection&, Tensor&)> change) {
  return computing<HyperConnection>(
      {"73", "hyper_connection.norm", std::move(cause), std::move(expected), std::move(found)},
      [change = std::move(change)](const Stage& stage, const StageOperands& operands, const StageContext& context) {
        const auto& op = std::get<HyperConnection>(stage.operation);
        const Tensor& x = *operands.inputs[0];
        Outputs all;
        for (std::int64_t t = 0; t < x.tokens(); ++t) {
          Tensor one = row_alone(x, t);
          change(op, one);
          StageOperands plain = operands;
          plain.inputs[0] = &one;
          Parameters other = parameters(operands);
          other.scale = scaled(other.scale, root_mean_square(one.data, op.norm_eps));
          Outputs row = run_with(stage, plain, context, other);
          for (std::size_t o = 0; o < row.size(); ++o) {
            if (t == 0) {
              all.push_back(row[o]);
              continue;
            }
            append_row(all[o], row[o]);
          }
        }
        return all;
      });
}

void connection_hypotheses(std::vector<Hypothesis>& list) {
  list.push_back(with_parameters(
      {"72", "hyper_connection.comb", "the mixing matrix is transposed", std::string("as stored"), std::string("transposed")},
      [](const HyperConnection& op, Parameters& all) {
        if (op.mixes) reorder(transposed(op.streams), all);
      }));
  for (const SinkhornStart start : {SinkhornStart::kRows, SinkhornStart::kColumns})
    list.push_back(softmax_of_columns(start));
  // Who does not balance has no sum that the epsilon could guard.
  list.push_back(computing<HyperConnection>({"68", "hyper_connection.balance", "the mixing matrix is a softmax of rows alone: it is not balanced, and no epsilon is added",
                                             std::string("balanced"), std::string("softmax")},
                                            [](const Stage& stage, const StageOperands& operands, const StageContext& context) {
                                              Stage once = stage;
                                              auto& op = std::get<HyperConnection>(once.operation);
                                              op.iterations = 0;
                                              Outputs out = run_stage(once, operands, context);
                                              for (std::size_t i = 0; op.mixes && i < out[2].data.size(); ++i)
                                                out[2].data[i] = context.numerics.single(out[2].data[i] - op.eps);
                                              return out;
                                            }));
  list.push_back(projected("the hyper-connection's input is not normalised", true, false, [](const HyperConnection&, Tensor&) {}));
  list.push_back(projected("the hyper-connection normalises each stream by itself", std::string("all streams"), std::string("each stream"),
                           [](const HyperConnection& op, Tensor& one) {
                             const auto width = static_cast<std::size_t>(one.shape[2]);
                             for (std::size_t first = 0; first < one.data.size(); first += width) {
                               const auto stream = std::span(one.data).subspan(first, width);
                               const double root = root_mean_square(stream, op.norm_eps);
                               for (double& value : stream)
                                 value /= root;
                             }
                           }));
  list.push_back(split_order("post, pre, comb", {1, 0, 2}));
  list.push_back(split_order("comb, pre, post", {2, 0, 1}));
  list.push_back(split_order("pre, comb, post", {0, 2, 1}));
  list.push_back(with_parameters({"76", "hyper_connection.scale", "the hyper-connection's scale is left out", true, false},
                                 [](const HyperConnection&, Parameters& all) { all.scale = constant({all.scale->row_length()}, 1); }));
  list.push_back(with_parameters({"76", "hyper_connection.scale", "the hyper-connection's first scale serves for all three",
                                  std::string("one each"), std::string("the first")},
                                 [](const HyperConnection& op, Parameters& all) {
                                   if (op.mixes) all.scale = reordered_rows(all.scale, {0, 0, 0});
                                 }));
  list.push_back(with_parameters({"76", "hyper_connection.base", "the hyper-connection's base is not added", true, false},
                                 [](const HyperConnection&, Parameters& all) { all.base = scaled(all.base, 0); }));
  list.push_back(computing<HyperConnection>({"77", "hyper_connection.pre", "the weights of the streams that are collapsed are a softmax",
                                             std::string("sigmoid"), std::string("softmax")},
                                            [](const Stage& stage, const StageOperands& operands, const StageContext& context) {
                                              const double eps = std::get<HyperConnection>(stage.operation).eps;
                                              Outputs out = run_stage(stage, operands, context);
                                              for (std::int64_t t = 0; t < out[0].tokens(); ++t) {
                                                double total = 0;
                                                for (double& value : out[0].row(t))
                                                  total += value =
                                                      (value - eps) / (1 - (value - eps));  // the exponential of what the sigmoid was of
                                                for (double& value : out[0].row(t))
                                                  value = context.numerics.single(value / total + eps);
                                              }
                                              return out;
                                            }));
  list.push_back(scaling<HyperConnection>(
      {"77", "hyper_connection.pre_scale", "the weights of the streams that are collapsed are multiplied", 1.0, std::monostate{}},
      kAnyFactor, [](const Stage& stage, const StageOperands& operands, const StageContext& context, double by) {
        const double eps = std::get<HyperConnection>(stage.operation).eps;
        Outputs out = run_stage(stage, operands, context);
        for (double& value : out[0].data)
          value = (value - eps) * by + eps;
        return out;
      }));
}

void collapse_hypotheses(const BoundGraph& network, const Stage& stage, std::vector<Hypothesis>& list) {
  const auto weighing = [&](std::string cause, std::string found, std::function<void(std::span<double>)> change) {
    list.push_back(computing<Collapse>({"77", "collapse.weights", std::move(cause), std::string("pre"), std::move(found)},
                                       with_rows(1, std::move(change))));
  };
  weighing("the streams are averaged, not weighed", "mean",
           [](std::span<double> row) { std::ranges::fill(row, 1.0 / static_cast<double>(row.size())); });
  weighing("the streams are summed, not weighed", "sum", [](std::span<double> row) { std::ranges::fill(row, 1.0); });
  weighing("the first stream stands for all", "first", [](std::span<double> row) {
    std::ranges::fill(row, 0.0);
    row[0] = 1;
  });
  const auto* source = std::get_if<HyperConnection>(&stage_at(network, stage.inputs[1].stage).operation);
  if (source == nullptr) return;
  list.push_back(computing<Collapse>({"77", "collapse.streams", "the normalised streams are collapsed, not the streams themselves",
                                      std::string("as they are"), std::string("normalised")},
                                     with_rows(0, [eps = source->norm_eps](std::span<double> streams) {
                                       const double root = root_mean_square(streams, eps);
                                       for (double& value : streams)
                                         value /= root;
                                     })));
}

void mix_hypotheses(std::vector<Hypothesis>& list) {
  const auto weighing = [&](std::string field, std::string cause, std::string expected, std::string found, std::size_t input,
                            std::function<void(std::span<double>)> change) {
    list.push_back(computing<Mix>({"78", std::move(field), std::move(cause), std::move(expected), std::move(found)},
                                  with_rows(input, std::move(change))));
  };
  weighing("mix.comb", "the streams are not mixed: each is handed on as it is", "comb", "identity", 3, [](std::span<double> row) {
    const auto n = static_cast<std::size_t>(std::llround(std::sqrt(static_cast<double>(row.size()))));
    for (std::size_t i = 0; i < row.size(); ++i)
      row[i] = i / n == i % n ? 1 : 0;
  });
  weighing("mix.post", "the branch joins every stream unweighed", "post", "1", 2,
           [](std::span<double> row) { std::ranges::fill(row, 1.0); });
  list.push_back(computing<Mix>({"28", "mix.branch", "the branch is not added to the streams", true, false},
                                with_rows(1, [](std::span<double> branch) { std::ranges::fill(branch, 0.0); })));
}

void repeat_hypotheses(std::vector<Hypothesis>& list) {
  const auto weighing = [&](std::string cause, std::string found, double first, double others) {
    list.push_back(computing<Repeat>({"78", "repeat.copies", std::move(cause), std::string("each stream"), std::move(found)},
                                     [first, others](const Stage& s, const StageOperands& operands, const StageContext& context) {
                                       Outputs out = run_stage(s, operands, context);
                                       const double n = static_cast<double>(out[0].shape[1]);
                                       for (std::int64_t t = 0; t < out[0].tokens(); ++t) {
                                         const auto row = out[0].row(t);
                                         const std::size_t width = row.size() / static_cast<std::size_t>(out[0].shape[1]);
                                         for (std::size_t i = 0; i < row.size(); ++i)
                                           row[i] =
                                               context.numerics.activation(row[i] * (i < width ? first : others) / (others == 0 ? 1 : n));
                                       }
                                       return out;
                                     }));
  };
  weighing("the embedding begins the first stream alone, the others are zero", "the first stream", 1, 0);
  weighing("the embedding is dealt to the streams in equal parts", "a part for each", 1, 1);
}

// The connections around a layer's two halves take each other's parameters.
bool exchange_connections(const BoundGraph& network, int index, double, Patch& patch) {
  const Stage& own = stage_at(network, index);
  if (!std::holds_alternative<HyperConnection>(own.operation)) return false;
  for (int i = 0; i < static_cast<int>(network.graph.stages.size()); ++i) {
    const Stage& other = stage_at(network, i);
    if (i == index || other.layer != own.layer || own.layer < 0 || !std::holds_alternative<HyperConnection>(other.operation)) continue;
    patched_stage(network, index, patch).params = other.params;
    patched_stage(network, i, patch).params = own.params;
    return true;
  }
  return false;
}

}  // namespace

std::vector<Hypothesis> stream_hypotheses(const BoundGraph& network, int index) {
  const Stage& stage = stage_at(network, index);
  std::vector<Hypothesis> list;
  if (std::holds_alternative<HyperConnection>(stage.operation)) {
    connection_hypotheses(list);
    add_where_it_applies(network, index, list,
                         {.row = "76",
                          .field = "hyper_connection.half",
                          .cause = "the connections around attention and around the MLP are exchanged",
                          .expected = std::string("its own"),
                          .found = std::string("the other half's"),
                          .range = std::nullopt,
                          .apply = exchange_connections,
                          .rarity = 1});
  }
  if (std::holds_alternative<Collapse>(stage.operation)) collapse_hypotheses(network, stage, list);
  if (std::holds_alternative<Mix>(stage.operation)) mix_hypotheses(list);
  if (std::holds_alternative<Repeat>(stage.operation)) repeat_hypotheses(list);
  return list;
}

}  // namespace plumb
