// The tokenizer of a model, in whatever file it lies: tokenizer.json, SentencePiece's tokenizer.model, tiktoken's ranks, GGUF.
#pragma once
#include <filesystem>
#include <memory>
#include <optional>

#include "core/result.h"
#include "io/config.h"
#include "io/gguf/tokenizer_data.h"
#include "text/tokenizer.h"

namespace plumb {

// Of a model's folder, of a file in that folder, or of a tokenizer.json, .model or .tiktoken by its own name; null when there is none. A
// folder's tokenizer.json goes before its tokenizer.model, as in transformers; what a tokenizer.model is (SentencePiece, or tiktoken's ranks),
// its contents say.
Result<std::shared_ptr<const Tokenizer>> load_tokenizer(const std::filesystem::path& model);

// The same, as what GGUF's metadata can hold of it, padded to the configuration's vocabulary; nothing when there is none.
Result<std::optional<GgufTokenizer>> load_gguf_tokenizer(const std::filesystem::path& model,
                                                         const Config& config);

// The model's chat template: chat_template.jinja, else tokenizer_config.json's, or GGUF's; "" when there is none.
Result<std::string> load_chat_template(const std::filesystem::path& model);

}  // namespace plumb
