// Sampler: from a row of logits to an id. Greedy unless a temperature is given; an exact tie goes to the lowest id.
// Order of the steps and which ties survive them as in transformers (generation/logits_process.py and
// _get_logits_processor of utils.py): temperature, top-k, top-p, min-p, then one draw. Arithmetic is in double.
#pragma once
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "core/result.h"

namespace plumb {

struct SamplerOptions {
  double temperature = 0;  // 0: greedy
  std::int64_t top_k = 0;  // 0: all
  double top_p = 1;
  double min_p = 0;
  std::uint64_t seed = 0;

  Status check() const;  // an error names the option, its value and its limits
};

struct Candidate {
  std::int32_t id;
  double probability;
};

// What is left to draw from: ascending ids, probabilities that sum to 1. Greedy options leave one. An error names a logit
// that is not finite, or that there is none.
Result<std::vector<Candidate>> candidates(std::span<const double> logits,
                                          const SamplerOptions& options);

class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options);

  // Errors as candidates().
  Result<std::int32_t> choose(std::span<const double> logits);

 private:
  SamplerOptions options_;
  std::mt19937_64 random_;
};

// The id of the largest logit; the lowest of equals. `logits` is not empty.
std::int32_t argmax(std::span<const double> logits);

// log softmax of one row, in double.
std::vector<double> log_softmax(std::span<const double> logits);

}  // namespace plumb
