// A compiled character map of SentencePiece: a double array (Darts) from byte strings to replacements
// (sentencepiece, src/normalizer.cc; the crate spm_precompiled).
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace plumb {

class CharsMap {
 public:
  // The "precompiled_charsmap" blob. An error when its parts contradict each other.
  static Result<CharsMap> parse(std::string_view blob, std::string_view where);

  struct Match {
    std::size_t size;  // bytes of the key
    std::string_view replacement;
  };

  // The keys that `text` starts with: the shortest, and the longest.
  std::optional<Match> shortest(std::string_view text) const;
  std::optional<Match> longest(std::string_view text) const;

 private:
  std::optional<Match> search(std::string_view text, bool stop_at_first) const;

  std::vector<std::uint32_t> units_;
  std::string replacements_;  // each ends with a zero byte
};

}  // namespace plumb
