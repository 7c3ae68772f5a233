// Generation: prompt in, ids and text out, one token at a time.
//   PLUMB_TRY(const Generation answer, generate(model, *executor, ids, {.max_tokens = 64}, [](std::string_view piece) { … }));
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "engine/model.h"
#include "engine/sampler.h"

namespace plumb {

enum class FinishReason : std::uint8_t { kStop, kStopText, kLength, kCancelled };
std::string_view to_string(FinishReason reason);  // "stop", "stop_text", "length", "cancelled"

struct GenerateOptions {
  SamplerOptions sampler = {};
  std::int64_t max_tokens = 256;
  std::vector<std::string> stop_texts = {};  // the text ends before the first of them to appear
  bool ignore_eos = false;
  std::int64_t chunk = 0;  // prompt tokens computed together; 0: all. Never changes a result
  std::function<bool(std::int64_t fed)> progress =
      {};  // after each chunk of the prompt and each token; false cancels
};

struct Generation {
  std::vector<std::int32_t> ids;  // the stop id included
  std::string text;               // the stop id's own text and special tokens are not part of it
  FinishReason finish_reason;
  double prompt_seconds;
  double generate_seconds;  // from the first choice to the last
};

// Called with each piece of text that may be shown: never half a character, never a part of a stop text. False cancels.
using TextSink = std::function<bool(std::string_view piece)>;

// A cancelled run is no error: it returns what it had, with kCancelled.
Result<Generation> generate(const Model& model, const Executor& executor,
                            std::span<const std::int32_t> prompt_ids,
                            const GenerateOptions& options, const TextSink& sink);

}  // namespace plumb
