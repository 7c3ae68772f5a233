// Conversion: the network's parameters under their canonical names go through io/gguf.
#include "engine/convert.h"

#include <utility>

#include "core/mapped_file.h"
#include "engine/model.h"
#include "io/gguf/convert.h"
#include "io/gguf/names.h"
#include "io/gguf/tokenizer_write.h"
#include "models/support/registry.h"

namespace plumb {
namespace {

constexpr std::size_t kMaxTokenizerBytes = std::size_t{1} << 30;
constexpr std::size_t kMaxTemplateBytes = std::size_t{16} << 20;

// The tokenizer of a folder, or nothing when it has none.
Result<std::optional<GgufTokenizer>> tokenizer_of_folder(const std::filesystem::path& folder,
                                                         const Config& config) {
  std::error_code ignored;
  const std::filesystem::path file = folder / "tokenizer.json";
  if (!std::filesystem::exists(file, ignored)) return std::optional<GgufTokenizer>();
  PLUMB_TRY(const std::string text, read_text_file(file, kMaxTokenizerBytes));
  PLUMB_TRY(GgufTokenizer tokenizer, gguf_tokenizer_from_json(text, file.string(), config));
  const std::filesystem::path chat = folder / "chat_template.jinja";
  if (std::filesystem::exists(chat, ignored)) {
    PLUMB_TRY(tokenizer.chat_template, read_text_file(chat, kMaxTemplateBytes));
  }
  return std::optional(std::move(tokenizer));
}

Result<std::optional<GgufTokenizer>> tokenizer_of_file(const std::filesystem::path& path) {
  PLUMB_TRY(const auto file, GgufFile::open(path));
  auto tokenizer = tokenizer_from_gguf(*file);
  if (tokenizer.ok()) return std::optional(std::move(tokenizer).value());
  if (tokenizer.error().code == ErrorCode::kNotFound) return std::optional<GgufTokenizer>();
  return tokenizer.error();
}

}  // namespace

Status convert_to_gguf(const std::filesystem::path& path, const std::filesystem::path& out,
                       const ConvertOptions& options, const WriteProgress& progress) {
  PLUMB_TRY(const Model model, Model::load(path, {}));
  const Architecture* architecture = find_architecture(model.config->model_type());
  if (architecture == nullptr) architecture = find_architecture(model.config->text_model_type());
  if (architecture == nullptr)
    return Error{ErrorCode::kInternal, path.string() + ": its architecture is gone"};
  GgufConversion conversion{.name = path.stem().string(),
                            .config = *model.config,
                            .conventions = architecture->gguf,
                            .parameters = {},
                            .tokenizer = std::nullopt,
                            .type = options.type,
                            .threads = options.threads};
  for (std::size_t i = 0; i < model.network.weights.size(); ++i) {
    conversion.parameters.push_back({model.network.graph.params[i].name, model.network.weights[i]});
  }
  const bool is_gguf = path.extension() == ".gguf";
  PLUMB_TRY(conversion.tokenizer,
            is_gguf ? tokenizer_of_file(path) : tokenizer_of_folder(path, *model.config));
  PLUMB_TRY_STATUS(write_gguf(conversion, out, progress));
  if (options.caveat && architecture->gguf.caveats != nullptr) {
    for (const std::string& sentence : architecture->gguf.caveats(*model.config))
      options.caveat(sentence);
  }
  return {};
}

}  // namespace plumb
