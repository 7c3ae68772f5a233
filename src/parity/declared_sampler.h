// What a trace's manifest says of how tokens were chosen and when generation ended, under the names of the engines in use.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "parity/trace.h"

namespace plumb {

struct DeclaredSampler {
  std::optional<double> temperature;  // 0: the largest logit; nothing where the trace does not say
  std::int64_t top_k = 0;             // 0: all
  double top_p = 1;
  double min_p = 0;
  double repetition = 1;  // divides positive logits of ids seen in prompt and answer, multiplies negative ones
  double presence = 0;    // taken off ids seen in the answer
  double frequency = 0;   // the same for each time
  std::optional<std::int64_t> window;  // of penalties: the last so many tokens, prompt and answer
  std::map<std::int32_t, double> bias;
  bool more = false;  // something else that changes the choice, which is not modelled here
  std::optional<std::int64_t> max_tokens;
  std::vector<std::string> stop_texts;
  bool ignores_stops = false;  // or does so for a number of tokens

  bool penalises() const { return repetition != 1 || presence != 0 || frequency != 0 || !bias.empty(); }
};

// `sampler` of the manifest, then the engine's settings.
DeclaredSampler declared_sampler(const TraceManifest& manifest);

}  // namespace plumb
