// The pre-tokenizers that GGUF names in tokenizer.ggml.pre, as the patterns of the models' own tokenizer.json.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

struct GgufPreTokenizer {
  std::vector<std::string> patterns;  // in turn, each to every piece so far
  bool ignore_merges;
  bool add_bos;  // where the file does not say
  bool nfc;      // the models normalize, which GGUF cannot say
};

std::optional<GgufPreTokenizer> gguf_pre_tokenizer(std::string_view name);

}  // namespace plumb
