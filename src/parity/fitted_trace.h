// A trace in the layout of the graph: batch axes left out, axes in the trace format's order, padding cut from ids, passes, rows and keys.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "engine/model.h"
#include "parity/trace.h"

namespace plumb {

// Tokens of a batch's other rows that fill the first pass.
struct Padding {
  std::int64_t left = 0;   // before the prompt
  std::int64_t right = 0;  // after it
  bool in_ids = false;     // the manifest's ids and counts hold them; else the tensors alone do
  bool known = false;      // the id is the checkpoint's own for padding, or the prompt's text says that these are none of its tokens
  std::int64_t first = 0;  // the position at which the prompt's first token is rotated

  std::int64_t count() const { return left + right; }
};

// "5 tokens of padding before the prompt"
std::string to_string(const Padding& padding);

// What padding the trace may hold, by its ids (a run of one id at an end of the prompt) and by its tensors (more rows than tokens);
// nothing where none is likely. Whether it does is for the values to say.
std::vector<Padding> possible_paddings(const Model& model, const Trace& trace);

struct FittedTrace {
  Trace trace;
  std::vector<std::string> misfits;  // what is named as a stage but has a shape that is none of its own, in words
};

// Tensors that fit as they are are shared with `trace`.
FittedTrace fit_trace(const Graph& graph, const Trace& trace, const Padding& padding);

}  // namespace plumb
