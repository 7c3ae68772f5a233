// After the network: which token each side took from its logits, and bytes read under the wrong type.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "parity/compare.h"

namespace plumb {

struct TokenChoice {
  std::string fault;     // "" for none
  bool sampler = false;  // the logits agree, and one side did not take the largest
  std::vector<std::string> notes;
  std::vector<std::string> not_observed;
};

// The first generated token that differs, against both sides' logits at its position.
TokenChoice compare_choice_of_tokens(const Trace& a, const Trace& b, const Comparison& comparison);

// The log-probabilities that one side reports, with their ids, and what the other's logits give for these; nothing where they
// are not there
// in that way. The rows stand at the same positions. `a` holds A's.
struct ReportedRows {
  RowSet a;
  RowSet b;
  bool of_a;  // A reports
};
std::optional<ReportedRows> reported_logprobs(const TraceSide& a, const TraceSide& b,
                                              const TokenMatch& tokens);

// Values whose bytes were read as another type.
struct Misreading {
  std::string words;  // "two-byte bfloat16 numbers read as four-byte floats"
  double residual;    // relative L2 once they are read as what they are
};
std::optional<Misreading> find_misreading(std::span<const double> read, std::span<const double> right);

// What `read` are of `right`, when their float32 bits say so: "two-byte bfloat16 numbers read as four-byte floats", or "".
std::string misread_words(std::span<const double> read, std::span<const double> right);

}  // namespace plumb
