#include "engine/tokenizer_file.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/mapped_file.h"
#include "io/gguf/names.h"
#include "io/gguf/reader.h"
#include "io/gguf/tokenizer_write.h"
#include "io/tokenizer_config.h"
#include "text/sentencepiece.h"
#include "text/tiktoken_config.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxTokenizerBytes = std::size_t{1} << 30;
constexpr std::size_t kMaxConfigBytes = std::size_t{64} << 20;  // lists added tokens
constexpr std::size_t kMaxTemplateBytes = std::size_t{16} << 20;

enum class Kind : unsigned char { kNone, kGguf, kJson, kModel };

struct TokenizerFile {
  Kind kind;
  fs::path path;
};

TokenizerFile find_file(const fs::path& model) {
  std::error_code ignored;
  if (model.extension() == ".gguf") return {Kind::kGguf, model};
  if (!fs::is_directory(model, ignored)) {
    if (model.filename().string().ends_with("tokenizer.json")) return {Kind::kJson, model};
    if (model.extension() == ".model" || model.extension() == ".tiktoken")
      return {Kind::kModel, model};
  }
  const fs::path parent = model.has_parent_path() ? model.parent_path() : ".";
  const fs::path folder = fs::is_directory(model, ignored) ? model : parent;
  for (const auto& [name, kind] :
       {std::pair("tokenizer.json", Kind::kJson), std::pair("tokenizer.model", Kind::kModel),
        std::pair("tiktoken.model", Kind::kModel)}) {
    if (is_present(folder / name)) return {kind, folder / name};
  }
  return {Kind::kNone, {}};
}

Result<TokenizerConfig> config_beside(const fs::path& file) {
  const fs::path path = file.parent_path() / "tokenizer_config.json";
  if (!is_present(path)) return TokenizerConfig();
  PLUMB_TRY(const std::string text, read_text_file(path, kMaxConfigBytes));
  return parse_tokenizer_config(text, path.string());
}

struct SentencePieceFile {
  SentencePieceModel model;
  EdgeTokens edges;
};

Result<SentencePieceFile> read_sentencepiece_file(const fs::path& path, std::string_view bytes) {
  PLUMB_TRY(SentencePieceModel model, read_sentencepiece(bytes, path.string()));
  PLUMB_TRY(const TokenizerConfig config, config_beside(path));
  const EdgeTokens edges = apply_tokenizer_config(config, model);
  return SentencePieceFile{std::move(model), edges};
}

Result<Tokenizer> read_model_file(const fs::path& path) {
  PLUMB_TRY(const std::string bytes, read_text_file(path, kMaxTokenizerBytes));
  if (!is_tiktoken(bytes)) {
    PLUMB_TRY(const SentencePieceFile file, read_sentencepiece_file(path, bytes));
    return make_sentencepiece_tokenizer(file.model, file.edges, path.string());
  }
  PLUMB_TRY(const TokenizerConfig config, config_beside(path));
  return Tokenizer::from_tiktoken(bytes, tiktoken_settings(config), path.string());
}

Result<GgufTokenizer> read_gguf(const fs::path& path) {
  PLUMB_TRY(const auto file, GgufFile::open(path));
  return tokenizer_from_gguf(*file);
}

Result<GgufTokenizer> gguf_of_model_file(const fs::path& path, const Config& config) {
  PLUMB_TRY(const std::string bytes, read_text_file(path, kMaxTokenizerBytes));
  if (is_tiktoken(bytes)) {
    return Error{ErrorCode::kUnsupported, path.string() +
                                              ": tiktoken's ranks have no merges for GGUF; convert "
                                              "them to a tokenizer.json (transformers)"};
  }
  PLUMB_TRY(const SentencePieceFile file, read_sentencepiece_file(path, bytes));
  PLUMB_TRY(GgufTokenizer data,
            gguf_tokenizer_from_sentencepiece(file.model, file.edges, path.string()));
  PLUMB_TRY_STATUS(complete_gguf_tokenizer(data, path.string(), config));
  return data;
}

Result<GgufTokenizer> gguf_of(const TokenizerFile& file, const Config& config) {
  if (file.kind == Kind::kModel) return gguf_of_model_file(file.path, config);
  PLUMB_TRY(const std::string text, read_text_file(file.path, kMaxTokenizerBytes));
  return gguf_tokenizer_from_json(text, file.path.string(), config);
}

}  // namespace

Result<std::shared_ptr<const Tokenizer>> load_tokenizer(const fs::path& model) {
  const TokenizerFile file = find_file(model);
  const auto shared = [](Result<Tokenizer> tokenizer) -> Result<std::shared_ptr<const Tokenizer>> {
    if (!tokenizer.ok()) return tokenizer.error();
    return std::shared_ptr<const Tokenizer>(
        std::make_shared<Tokenizer>(std::move(tokenizer).value()));
  };
  if (file.kind == Kind::kNone) return std::shared_ptr<const Tokenizer>();
  if (file.kind == Kind::kModel) return shared(read_model_file(file.path));
  if (file.kind == Kind::kJson) {
    PLUMB_TRY(const std::string text, read_text_file(file.path, kMaxTokenizerBytes));
    return shared(Tokenizer::from_json(text, file.path.string()));
  }
  const Result<GgufTokenizer> data = read_gguf(file.path);
  if (data.ok()) return shared(Tokenizer::from_gguf(data.value(), file.path.string()));
  if (data.error().code == ErrorCode::kNotFound) return std::shared_ptr<const Tokenizer>();
  return data.error();
}

Result<std::optional<GgufTokenizer>> load_gguf_tokenizer(const fs::path& model,
                                                         const Config& config) {
  const TokenizerFile file = find_file(model);
  if (file.kind == Kind::kNone) return std::optional<GgufTokenizer>();
  if (file.kind == Kind::kGguf) {
    auto data = read_gguf(file.path);
    if (data.ok()) return std::optional(std::move(data).value());
    if (data.error().code == ErrorCode::kNotFound) return std::optional<GgufTokenizer>();
    return data.error();
  }
  PLUMB_TRY(GgufTokenizer data, gguf_of(file, config));
  PLUMB_TRY(data.chat_template, load_chat_template(model));
  return std::optional(std::move(data));
}

Result<std::string> load_chat_template(const fs::path& model) {
  const TokenizerFile file = find_file(model);
  if (file.kind == Kind::kNone) return std::string();
  if (file.kind == Kind::kGguf) {
    auto data = read_gguf(file.path);
    if (data.ok()) return std::move(data).value().chat_template;
    if (data.error().code == ErrorCode::kNotFound) return std::string();
    return data.error();
  }
  const fs::path chat = file.path.parent_path() / "chat_template.jinja";
  if (is_present(chat)) return read_text_file(chat, kMaxTemplateBytes);
  PLUMB_TRY(TokenizerConfig config, config_beside(file.path));
  return std::move(config.chat_template);
}

}  // namespace plumb
