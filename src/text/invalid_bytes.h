// How decoding shows byte tokens that are not UTF-8 together.
#pragma once

namespace plumb {

enum class InvalidBytes : unsigned char {
  kWholeRun,  // each byte of a run with a fault becomes U+FFFD, as `tokenizers` does
  kExact,     // only what is invalid becomes U+FFFD, so that text once decoded never changes
};

}  // namespace plumb
