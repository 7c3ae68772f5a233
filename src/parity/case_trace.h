// A part of a trace, written as a trace: which captured values a check needs, of how many of the first tokens.
#pragma once
#include <filesystem>
#include <set>
#include <string>
#include <utility>

#include "parity/checks.h"
#include "parity/trace.h"

namespace plumb {

struct CaseContent {
  std::size_t steps = 1;                                     // the first of the trace's passes
  std::set<std::pair<std::size_t, std::string>> values;      // step and stage
  std::int64_t tokens = 0;                                   // of the first pass; fewer than it has only where `steps` is 1
  bool with_prompt = false;                                  // the text, and what was rendered of it
  bool last_rows = false;                                    // of each value the last row alone
};

// What a check was made of: the suspect's value, and what was captured of its span's inputs, in earlier passes too where a stage
// remembers.
CaseContent content_of(const BoundGraph& network, const Captured& captured, const Check& check);

// Whether the content can be cut to its first tokens: one pass, and every value has a row for each token.
bool can_be_cut(const BoundGraph& network, const Captured& captured, const CaseContent& content);

// Writes manifest.json and tensors.safetensors into `folder`, which is there and empty. Returns the number of tensors.
Result<std::size_t> write_case(const std::filesystem::path& folder, const Trace& trace, const Captured& captured,
                               const CaseContent& content);

}  // namespace plumb
