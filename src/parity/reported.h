// What lies between the network and what an engine reports: bytes read as another type (row 20a), log-probabilities of processed logits
// (row 9). Neither is a stage's convention, so no patch of the graph says it.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "graph/print.h"
#include "parity/checks.h"

namespace plumb {

// What is done to logits before their log-probabilities are reported: 0 and 1 stand for no cut.
struct Processing {
  double temperature = 1;
  std::int64_t top_k = 0;
  double top_p = 1;
};

struct ReportCause {
  std::string row;
  std::string cause;
  std::string field;  // "report.bytes", "report.temperature", "report.top_k", "report.top_p"
  FieldValue expected;
  FieldValue found;
  double residual = 0;              // of the suspect's report to ours under the cause
  std::vector<std::string> also;  // rows that the report cannot tell apart
  Processing processing;            // of row 9
};

// Whether the suspect's values are ours in two-byte numbers whose bytes were read as four-byte floats.
std::optional<ReportCause> find_misread(const Tensor& suspect, const Tensor& ours);

// The temperature, and the cut to the likeliest with its renormalisation, under which `logits` [tokens, vocab] give the log-probabilities
// [tokens, k] of `ids` [tokens, k] within `budget` (relative L2). Minus infinity stands for an id that was cut.
std::optional<ReportCause> find_processed(const Tensor& logprobs, const Tensor& ids, const Tensor& logits, double budget);

// Log-probabilities [tokens, k] of `ids` under a processing; minus infinity where an id is cut.
Tensor report_of(const Tensor& logits, const Tensor& ids, const Processing& processing);

// Either, of a check that fails; under the causes found before it.
std::optional<ReportCause> find_report_cause(Checker& checker, const Check& check, const Patch& so_far);

// Whether a cause found at another report of the same output explains this one.
bool explains_report(Checker& checker, const Check& check, const Patch& so_far, const ReportCause& cause);

// Whether log-probabilities are those of the logits that the suspect reported in the same pass: then they say nothing that these do not.
bool follows_own_logits(Checker& checker, const Check& check);

}  // namespace plumb
