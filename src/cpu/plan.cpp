// Planning a network.
#include "cpu/plan.h"

#include <algorithm>
#include <type_traits>
#include <unordered_set>

#include "cpu/ops/ops.h"
#include "graph/fields.h"

namespace plumb::cpu {
namespace {

bool reads_rows(const Operation& operation) {
  const auto* router = std::get_if<Router>(&operation);
  return std::holds_alternative<Embed>(operation) ||
         (router != nullptr && router->choice == RouterChoice::kTable);
}

bool multiplies(const Operation& operation) {
  return std::holds_alternative<Linear>(operation) || std::holds_alternative<Logits>(operation) ||
         std::holds_alternative<GroupedLinear>(operation) ||
         std::holds_alternative<Experts>(operation);
}

std::vector<float> read_all(const Weight& weight) {
  std::vector<double> row(static_cast<std::size_t>(weight.row_length()));
  std::vector<float> values;
  for (std::int64_t r = 0; r < weight.rows(); ++r) {
    weight.read_row(r, row);
    for (const double value : row)
      values.push_back(static_cast<float>(value));
  }
  return values;
}

StageWeights weights_of(const Stage& stage, const BoundGraph& network, Activations activations, const Kernels& kernels, Plan& plan) {
  StageWeights weights;
  for (std::size_t i = 0; i < stage.params.size(); ++i) {
    const auto param = static_cast<std::size_t>(stage.params[i]);
    const WeightPtr& weight = network.weights[param];
    const bool last = i + 1 == stage.params.size();
    weights.stored.push_back(weight.get());
    weights.vectors.emplace_back();
    weights.matrices.push_back(nullptr);
    if (multiplies(stage.operation) && weight->shape().size() >= 2) {
      auto& matrix = plan.matrices[param];
      if (matrix == nullptr) matrix = std::make_unique<Matrix>(weight, activations, kernels);
      weights.matrices.back() = matrix.get();
    } else if (!reads_rows(stage.operation) || !last) {
      weights.vectors.back() = read_all(*weight);
    }
  }
  return weights;
}

// The convention as numbers, for comparison.
std::vector<double> numbers_of(const Rope& rope) {
  std::vector<double> numbers;
  visit_fields(rope, [&](std::string_view, const auto& value) {
    using T = std::remove_cvref_t<decltype(value)>;
    if constexpr (std::is_same_v<T, std::vector<double>>) {
      numbers.push_back(static_cast<double>(value.size()));
      numbers.insert(numbers.end(), value.begin(), value.end());
    } else {
      numbers.push_back(static_cast<double>(value));
    }
  });
  return numbers;
}

void share_tables(const Graph& graph, Plan& plan) {
  std::vector<std::pair<std::vector<double>, const Rope*>> seen;
  for (const Stage& stage : graph.stages) {
    const auto* rope = std::get_if<Rope>(&stage.operation);
    if (rope == nullptr) continue;
    const std::vector<double> numbers = numbers_of(*rope);
    const auto same = std::find_if(seen.begin(), seen.end(),
                                   [&](const auto& entry) { return entry.first == numbers; });
    plan.same_rope.emplace_back(rope, same == seen.end() ? rope : same->second);
    if (same == seen.end()) seen.emplace_back(numbers, rope);
  }
}

// Projections of one value wait for nothing but it, so the first computes all.
void group_linears(const Graph& graph, Plan& plan) {
  plan.together.resize(graph.stages.size());
  std::vector<bool> taken(graph.stages.size(), false);
  for (std::size_t i = 0; i < graph.stages.size(); ++i) {
    if (taken[i] || !std::holds_alternative<Linear>(graph.stages[i].operation)) continue;
    const Value x = graph.stages[i].inputs[0];
    for (std::size_t j = i; j < graph.stages.size(); ++j) {
      if (taken[j] || !std::holds_alternative<Linear>(graph.stages[j].operation)) continue;
      const Value other = graph.stages[j].inputs[0];
      if (other.stage != x.stage || other.output != x.output) continue;
      plan.together[i].push_back(j);
      taken[j] = true;
    }
  }
}

// One after the other in the order in which stages meet them, so that large pages are shared.
void place_matrices(Plan& plan) {
  std::size_t bytes = 0;
  std::vector<Matrix*> order;
  std::unordered_set<const Matrix*> met;
  for (const StageWeights& weights : plan.weights) {
    for (Matrix* matrix : weights.matrices) {
      if (matrix == nullptr || !met.insert(matrix).second) continue;
      order.push_back(matrix);
      bytes += matrix->packed_bytes();
    }
  }
  plan.store = Pages(bytes);
  std::uint8_t* at = plan.store.data();
  for (Matrix* matrix : order) {
    matrix->place(at);
    at += matrix->packed_bytes();
  }
}

// Bytes of panels that a waiting thread asks for: what memory yields between two products of one token, and a fraction of a second-level
// cache.
constexpr std::size_t kAhead = std::size_t{192} << 10;

// The matrices that a stage that multiplies multiplies with, in the order of the tasks of multiply(); none where ids choose them.
std::vector<const Matrix*> products_of(const Graph& graph, const Plan& plan, std::size_t stage) {
  const Operation& operation = graph.stages[stage].operation;
  if (std::holds_alternative<Experts>(operation)) return {};
  if (!std::holds_alternative<Linear>(operation)) return {plan.weights[stage].matrices[0]};
  std::vector<const Matrix*> matrices;
  for (const std::size_t i : plan.together[stage])
    matrices.push_back(plan.weights[i].matrices[0]);
  return matrices;
}

std::vector<std::span<const std::uint8_t>> first_panels(const std::vector<const Matrix*>& matrices, const ThreadPool& pool) {
  std::int64_t tasks = 0;
  for (const Matrix* matrix : matrices)
    tasks += matrix->panels();
  std::vector<std::span<const std::uint8_t>> first;
  for (int thread = 0; thread < pool.threads(); ++thread) {
    std::int64_t task = pool.begin_of(tasks, thread);
    auto matrix = matrices.begin();
    while (matrix != matrices.end() && task >= (*matrix)->panels())
      task -= (*matrix++)->panels();
    first.push_back(matrix == matrices.end() ? std::span<const std::uint8_t>{} : (*matrix)->kept_from(task, kAhead));
  }
  return first;
}

// Behind the last products come the next token's first.
void look_ahead(const Graph& graph, const ThreadPool& pool, Plan& plan) {
  plan.ahead.resize(graph.stages.size());
  std::vector<std::size_t> multiplying;
  for (std::size_t i = 0; i < graph.stages.size(); ++i) {
    if (multiplies(graph.stages[i].operation) && (!std::holds_alternative<Linear>(graph.stages[i].operation) || !plan.together[i].empty()))
      multiplying.push_back(i);
  }
  for (std::size_t i = 0; i < multiplying.size(); ++i)
    plan.ahead[multiplying[i]] = first_panels(products_of(graph, plan, multiplying[(i + 1) % multiplying.size()]), pool);
}

// The projection that a stage's values (its third input) are parts of.
const Matrix* values_of(const Graph& graph, const Stage& stage, const Plan& plan) {
  if (!std::holds_alternative<Attend>(stage.operation)) return nullptr;
  auto at = static_cast<std::size_t>(stage.inputs[2].stage);
  while (!std::holds_alternative<Linear>(graph.stages[at].operation)) {
    if (graph.stages[at].inputs.empty()) return nullptr;
    at = static_cast<std::size_t>(graph.stages[at].inputs[0].stage);
  }
  return plan.weights[at].matrices[0];
}

}  // namespace

Plan make_plan(const BoundGraph& network, Activations activations, const Kernels& kernels, const ThreadPool& pool) {
  const Graph& graph = network.graph;
  Plan plan;
  plan.matrices.resize(graph.params.size());
  plan.last_use.resize(graph.stages.size(), 0);
  for (std::size_t i = 0; i < graph.stages.size(); ++i) {
    const Stage& stage = graph.stages[i];
    for (const Value input : stage.inputs)
      plan.last_use[static_cast<std::size_t>(input.stage)] = i;
    if (const auto reason = unsupported(stage); reason && !plan.refusal) {
      plan.refusal = "the cpu executor does not compute stage " + stage.name + ": " + *reason +
                     "; the reference executor does";
    }
    plan.weights.push_back(weights_of(stage, network, activations, kernels, plan));
    plan.values_from.push_back(values_of(graph, stage, plan));
  }
  plan.last_use[static_cast<std::size_t>(graph.logits.stage)] = graph.stages.size();
  place_matrices(plan);
  // The system mapped what lies beside the vectors that were read.
  for (const WeightPtr& weight : network.weights)
    weight->release();
  share_tables(graph, plan);
  group_linears(graph, plan);
  look_ahead(graph, pool, plan);
  return plan;
}

}  // namespace plumb::cpu
