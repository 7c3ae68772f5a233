#include "cpu/path_words.h"

#include <algorithm>
#include <array>
#include <numeric>

namespace plumb::cpu {
namespace {

constexpr std::array<std::string_view, 5> kForms = {"float32", "int8", "int16", "bfloat16", "float32 in three terms of bfloat16"};

// "int8, float32".
std::string products_words(const Plan& plan, Activations activations, const Kernels& kernels) {
  std::array<double, kForms.size()> weights{};
  for (const auto& matrix : plan.matrices) {
    if (matrix == nullptr) continue;
    const auto form = static_cast<std::size_t>(activations_for(*matrix, activations, kernels));
    weights[form] += static_cast<double>(matrix->rows()) * static_cast<double>(matrix->columns());
  }
  std::array<std::size_t, kForms.size()> order{};
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, std::ranges::greater{}, [&](std::size_t form) { return weights[form]; });
  std::string words;
  for (const std::size_t form : order) {
    if (weights[form] > 0) words += (words.empty() ? "" : ", ") + std::string(kForms[form]);
  }
  return words.empty() ? "none" : words;
}

}  // namespace

std::string activation_words(ActivationForm form) {
  return std::string(kForms[static_cast<std::size_t>(form)]) + " activations";
}

std::string computed_words(const Graph& graph, const Plan& plan, const std::vector<bool>& rounded_attention, Activations activations,
                           const Kernels& kernels) {
  bool integers = false;
  bool floats = false;
  for (std::size_t i = 0; i < graph.stages.size(); ++i) {
    const Operation& operation = graph.stages[i].operation;
    if (!std::holds_alternative<Attend>(operation) && !std::holds_alternative<AttendShared>(operation)) continue;
    (rounded_attention[i] ? integers : floats) = true;
  }
  std::string words = "products: " + products_words(plan, activations, kernels);
  if (integers || floats) words += std::string("; attention: ") + (integers ? floats ? "int16, float32" : "int16" : "float32");
  return words;
}

}  // namespace plumb::cpu
