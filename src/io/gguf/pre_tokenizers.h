// The pre-tokenizers that GGUF names in tokenizer.ggml.pre, as the patterns of the models' own tokenizer.json.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

// openai/gpt-2, src/encoder.py; what ByteLevel cuts by.
inline constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

struct GgufPreTokenizer {
  std::vector<std::string> patterns;  // in turn, each to every piece so far
  bool ignore_merges = false;
  bool add_bos = false;  // where the file does not say
  bool nfc = false;      // the models normalize, which GGUF cannot say
  bool raw = false;      // U+2581 for spaces and bytes as <0xHH>, instead of the byte alphabet
};

// Null for a name that is not known.
const GgufPreTokenizer* gguf_pre_tokenizer(std::string_view name);

// The name for these patterns of byte-level BPE; rather one whose models normalize as `nfc` says. \r, \n and \t may be written
// either way. Nothing when no name has them.
std::optional<std::string_view> gguf_pre_tokenizer_name(const std::vector<std::string>& patterns,
                                                        bool ignore_merges, bool nfc);

std::vector<std::string_view> gguf_pre_tokenizer_names();  // all that are known

}  // namespace plumb
