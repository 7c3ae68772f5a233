// How long an executor takes: prompts and generation as llama-bench times them, with ids drawn at random.
#pragma once
#include <cstdint>
#include <functional>

#include "core/result.h"
#include "graph/executor.h"

namespace plumb {

struct TimedCase {
  std::int64_t prompt;    // tokens fed at once to each sequence; 0 where generation is timed
  std::int64_t generate;  // steps of one token of each sequence; 0 where the prompt is timed
  std::int64_t depth;     // tokens that each sequence holds before; not timed
  std::int64_t sequences;
  std::int64_t chunk;  // of the prompt; ForwardOptions::chunk

  std::int64_t tokens() const { return sequences * (prompt + generate); }
};

// Seconds of one repetition on new sequences. `proceed` is asked now and then; false cancels.
Result<double> time_once(const Executor& executor, const TimedCase& timed, std::int64_t vocabulary,
                         const std::function<bool()>& proceed);

}  // namespace plumb
