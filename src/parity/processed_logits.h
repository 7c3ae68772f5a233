// Logits that were processed before they were captured or reported: ids that had been seen are penalised, some ids have a bias
// (divergence.md, row 10), all but the likeliest are cut (row 9).
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "parity/reported.h"

namespace plumb {

// Ids that stood before a row's choice, its own token among them, each as often as it did.
struct SeenIds {
  std::vector<std::int32_t> all;
  std::vector<std::int32_t> generated;  // behind the first pass
};

// What was done to `logits` [tokens, vocab] so that they are `suspect`; where `ids` [tokens, k] are given, `suspect` [tokens, k] holds their
// log-probabilities. `budget` is relative L2. Under `known`, only that is asked for.
std::optional<ReportCause> find_processed_logits(const Tensor& suspect, const Tensor* ids, const Tensor& logits, const std::vector<SeenIds>& seen,
                                                 double budget, const ReportCause* known = nullptr);

}  // namespace plumb
