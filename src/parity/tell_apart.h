// Causes that a trace cannot tell apart, and the prompt that would: both are run, at the stage in question, on candidates.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "parity/checks.h"
#include "parity/diagnose.h"

namespace plumb {

// A prompt under which two causes leave more between them than a right engine may be off by.
struct TellingPrompt {
  std::int64_t tokens = 0;        // of the prompt, at least
  std::vector<std::int32_t> ids;  // to feed; empty where the length alone decides
  double apart = 0;               // relative L2 at the stage
};

struct PromptSearch {
  std::optional<TellingPrompt> prompt;
  std::int64_t longest = 0;  // tokens of the longest prompt that was tried; 0: none was, each is too dear
  double most = 0;           // the largest relative L2 between the two under any prompt that was run
};

// What is tried: `fed`, the suspect's own ids, repeated, and ids from all over the vocabulary, up to a few hundred tokens where it can be
// afforded; of causes in the rotation alone, single tokens at positions below `most_positions` too. The shortest that does is returned. A check of a
// later pass is asked about the last token alone, in a pass of its own.
PromptSearch find_telling_prompt(const Checker& checker, const Check& check, const Patch& cause, const Patch& other,
                                 const std::vector<std::int32_t>& fed, std::int64_t most_positions);

// Where the same prompt would do: the first output at which the two differ, were it captured. Empty for none.
std::string telling_stage(const Checker& checker, const Check& check, const Patch& cause, const Patch& other);

enum class Told : std::uint8_t {
  kByPrompt,  // or by another capture of the same prompt
  kNever,     // no prompt that was tried
  kSame,      // the two compute the same: one cause in two ways of saying it
};

// Sets the alternative's prompt and its words: what tells `other` from `cause`.
Told tell_apart(const Checker& checker, const Check& check, const Patch& cause, const Patch& other, std::int64_t most_positions,
                Alternative& alternative);

}  // namespace plumb
