// What a trace's manifest says of how tokens were chosen and when generation ended, under the names of the engines in use.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "parity/choice_rows.h"
#include "parity/trace.h"

namespace plumb {

struct DeclaredSampler {
  std::optional<double> temperature;  // 0: the largest logit; nothing where the trace does not say
  std::int64_t top_k = 0;             // 0: all
  double top_p = 1;
  double min_p = 0;
  Penalty penalty;
  bool more = false;  // something else that changes the choice, which is not modelled here
  std::optional<std::int64_t> max_tokens;
  std::vector<std::string> stop_texts;
  bool ignores_stops = false;  // or does so for a number of tokens
};

// `sampler` of the manifest, then the engine's settings.
DeclaredSampler declared_sampler(const TraceManifest& manifest);

}  // namespace plumb
