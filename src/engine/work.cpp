// Adds up the stages' parameters.
#include "engine/work.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace plumb {
namespace {

ProductForm form_of(std::string_view format) {
  if (format.empty() || format.starts_with("F32") || format.starts_with("F64"))
    return ProductForm::kFloat32;
  if (format.starts_with("BF16") || format.starts_with("F16") || format.starts_with("FP8") ||
      format.starts_with("F8")) {
    return ProductForm::kBfloat16;
  }
  return ProductForm::kInt8;
}

class Sum {
 public:
  Sum(const BoundGraph& network, std::int64_t tokens) : network_(network), tokens_(tokens) {}

  Work total() {
    for (const Stage& stage : network_.graph.stages)
      add(stage);
    double most = 0;
    for (const auto& [format, operations] : operations_of_format_) {
      if (operations <= most) continue;
      most = operations;
      work_.format = format;
    }
    work_.form = form_of(work_.format);
    return work_;
  }

 private:
  const Weight& weight(int param) const {
    return *network_.weights[static_cast<std::size_t>(param)];
  }

  // One row of a table for each token.
  void add_rows(int param) {
    const Weight& table = weight(param);
    const double rows = static_cast<double>(std::max<std::int64_t>(table.rows(), 1));
    work_.step_bytes += static_cast<double>(table.stored_bytes()) *
                        std::min(1.0, static_cast<double>(tokens_) / rows);
  }

  void add_bytes(int param, double share) {
    if (read_.insert(param).second)
      work_.step_bytes += share * static_cast<double>(weight(param).stored_bytes());
  }

  // Of a matrix; `share` of the tokens go through it.
  void add_products(int param, double share, double& to) {
    const Param& shape = network_.graph.params[static_cast<std::size_t>(param)];
    if (shape.shape.size() < 2) return;
    const double operations = 2 * share * static_cast<double>(*element_count(shape.shape));
    to += operations;
    operations_of_format_[weight(param).format()] += operations;
  }

  void add_experts(const Stage& stage, const Experts& experts) {
    double chosen = static_cast<double>(experts.experts);
    for (const Value input : stage.inputs) {
      const Stage& source = network_.graph.stages[static_cast<std::size_t>(input.stage)];
      if (const auto* router = std::get_if<Router>(&source.operation))
        chosen = static_cast<double>(router->chosen);
    }
    const double share = chosen / static_cast<double>(experts.experts);
    const double read = 1 - std::pow(1 - share, static_cast<double>(tokens_));
    for (const int param : stage.params) {
      add_bytes(param, read);
      add_products(param, share, work_.token_operations);
    }
  }

  void add(const Stage& stage) {
    if (const auto* experts = std::get_if<Experts>(&stage.operation))
      return add_experts(stage, *experts);
    const bool is_logits = std::holds_alternative<Logits>(stage.operation);
    for (const int param : stage.params) {
      const bool is_table = std::holds_alternative<Embed>(stage.operation) ||
                            network_.graph.params[static_cast<std::size_t>(param)].ids_below;
      if (is_table) {
        add_rows(param);
        continue;
      }
      add_bytes(param, 1);
      add_products(param, 1, is_logits ? work_.logits_operations : work_.token_operations);
    }
  }

  const BoundGraph& network_;
  std::int64_t tokens_;
  Work work_;
  std::set<int> read_;
  std::map<std::string, double> operations_of_format_;
};

}  // namespace

std::string_view to_string(ProductForm form) {
  constexpr std::string_view kNames[] = {"fp32", "bf16", "int8"};
  return kNames[static_cast<std::size_t>(form)];
}

Work work_of(const BoundGraph& network, std::int64_t tokens) {
  return Sum(network, tokens).total();
}

std::uint64_t stored_bytes(const BoundGraph& network) {
  std::uint64_t bytes = 0;
  std::set<std::string_view> seen;  // tied weights are one parameter of the file
  for (std::size_t i = 0; i < network.weights.size(); ++i) {
    if (seen.insert(network.graph.params[i].name).second)
      bytes += network.weights[i]->stored_bytes();
  }
  return bytes;
}

std::uint64_t parameter_count(const BoundGraph& network) {
  std::uint64_t count = 0;
  std::set<std::string_view> seen;
  for (const Param& param : network.graph.params) {
    if (seen.insert(param.name).second)
      count += static_cast<std::uint64_t>(*element_count(param.shape));
  }
  return count;
}

}  // namespace plumb
