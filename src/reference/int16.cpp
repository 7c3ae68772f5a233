// Arithmetic in float, as there: a scale's last bit decides which way values near half a code fall.
#include "reference/int16.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "reference/ggml.h"

namespace plumb::reference {
namespace {

constexpr float kLongestRow = 46000;
constexpr float kLargestCode = 32767;
constexpr float kLargestValue = 8191;
constexpr float kProbabilities = 262000;
constexpr float kLeastScale = 1e-30F;
constexpr std::int64_t kBlock = 64;
constexpr std::size_t kChannels = 128;
constexpr float kLongestWeights = 32750;
constexpr float kLongestActivations = 65500;
constexpr float kLeastOfBlock = 0x1p-100F;

float largest_of(std::span<const double> row) {
  float largest = 0;
  for (const double value : row)
    largest = std::max(largest, std::abs(static_cast<float>(value)));
  return largest;
}

// In the order of the vectors there, so that a code near a half falls the same way: sixteen lanes, and these halves onto each other.
float length_of(std::span<const double> block, float factor) {
  constexpr std::size_t kLanes = 16;
  float squares[kLanes] = {};
  for (std::size_t i = 0; i < block.size(); ++i) {
    const float value = static_cast<float>(block[i]) * factor;
    squares[i % kLanes] = std::fma(value, value, squares[i % kLanes]);
  }
  for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i)
      squares[i] += squares[i + half];
  }
  return std::sqrt(squares[0]);
}

// Replaces each block by its codes times scale_of(largest, length over the largest).
template <class F>
void round_blocks(std::span<double> row, const F& scale_of) {
  for (std::size_t first = 0; first < row.size(); first += kChannels) {
    const std::span<double> block = row.subspan(first, std::min(kChannels, row.size() - first));
    const float largest = largest_of(block);
    float scale = 0;
    if (largest >= kLeastOfBlock) {
      scale = scale_of(largest, length_of(block, 1 / largest));
    }
    const float inverse = scale > 0 ? 1 / scale : 0;
    for (double& value : block)
      value = static_cast<double>(scale) * std::nearbyint(static_cast<float>(value) * inverse);
  }
}

}  // namespace

bool is_cpu_int16(DType type) {
  return type == DType::kBF16 || type == DType::kF16;
}

bool attends_in_float(const BoundGraph& network, std::size_t stage) {
  const auto& stages = network.graph.stages;
  if (!std::holds_alternative<Attend>(stages[stage].operation)) return false;
  auto at = static_cast<std::size_t>(stages[stage].inputs[2].stage);
  while (!std::holds_alternative<Linear>(stages[at].operation)) {
    if (stages[at].inputs.empty()) return true;
    at = static_cast<std::size_t>(stages[at].inputs[0].stage);
  }
  const WeightPtr& weight = network.weights[static_cast<std::size_t>(stages[at].params[0])];
  const auto type = weight == nullptr ? std::nullopt : weight->element_type();
  return !type || !(is_cpu_int8(*type) || is_cpu_int16(*type));
}

void round_int16_weights(std::span<double> row) {
  round_blocks(row, [](float largest, float length) {
    int exponent = 0;
    const float fraction = std::frexp(largest * (length / kLongestWeights), &exponent);
    return std::ldexp(1.0F, fraction == 0.5F ? exponent - 1 : exponent);
  });
}

void round_int16_activations(std::span<double> row) {
  round_blocks(row, [](float largest, float length) { return largest * std::max(length / kLongestActivations, 1 / kLargestCode); });
}

void round_int16(std::span<double> values, std::int64_t width, Int16Rows rows) {
  const auto n = static_cast<std::size_t>(width);
  for (std::size_t first = 0; first + n <= values.size(); first += n) {
    const std::span<double> row = values.subspan(first, n);
    float scale = largest_of(row) / (rows == Int16Rows::kByLength ? kLargestCode : kLargestValue);
    if (rows == Int16Rows::kByLength) {
      double squares = 0;
      for (const double value : row)
        squares += value * value;
      scale = std::max(scale, std::sqrt(static_cast<float>(squares)) / kLongestRow);
    }
    const float inverse = scale > kLeastScale ? 1 / scale : 0;
    for (double& value : row)
      value = static_cast<double>(scale) * std::nearbyint(static_cast<float>(value) * inverse);
  }
}

void gather_int16(std::span<const double> scores, std::optional<double> sink, std::int64_t position,
                  const std::function<const double*(std::size_t)>& value_of, std::span<double> sum) {
  double largest = -std::numeric_limits<double>::infinity();
  double total = 0;
  std::ranges::fill(sum, 0.0);
  std::vector<float> scales;   // of the block's keys
  std::vector<float> weights;  // and their probabilities times these
  for (std::size_t begin = 0; begin < scores.size();) {
    const std::int64_t place = (position + static_cast<std::int64_t>(begin)) % kBlock;
    const std::size_t end = std::min(scores.size(), begin + static_cast<std::size_t>(kBlock - place));
    const double now = std::max(largest, *std::max_element(scores.begin() + static_cast<std::ptrdiff_t>(begin),
                                                           scores.begin() + static_cast<std::ptrdiff_t>(end)));
    const double shrink = std::exp(largest - now);
    largest = now;
    for (double& value : sum)
      value *= shrink;
    total *= shrink;
    scales.clear();
    weights.clear();
    for (std::size_t j = begin; j < end; ++j) {
      const auto p = static_cast<float>(std::exp(static_cast<double>(static_cast<float>(scores[j] - largest))));
      total += p;
      scales.push_back(largest_of({value_of(j), sum.size()}) / kLargestValue);
      weights.push_back(p * scales.back());
    }
    const float top = *std::ranges::max_element(weights);
    double all = 0;
    for (const float weight : weights)
      all += weight;
    const float share = std::max(static_cast<float>(all) / kProbabilities, top / kLargestCode);
    const float inverse = top > kLeastScale ? 1 / share : 0;
    for (std::size_t j = begin; j < end; ++j) {
      const double* value = value_of(j);
      const float scale = scales[j - begin];
      if (scale == 0) continue;
      const double weight = std::nearbyint(weights[j - begin] * inverse) * share / scale;
      for (std::size_t d = 0; d < sum.size(); ++d)
        sum[d] += weight * value[d];
    }
    begin = end;
  }
  double kept = 1;
  if (sink) {
    const double most = std::max(largest, *sink);
    kept = std::exp(largest - most);
    total = total * kept + std::exp(*sink - most);
  }
  for (double& value : sum)
    value = static_cast<float>(value * kept / total);
}

}  // namespace plumb::reference
