// Conversion: the network's parameters under their canonical names go through io/gguf.
#include "engine/convert.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "engine/model.h"
#include "engine/tokenizer_file.h"
#include "io/gguf/convert.h"
#include "models/support/registry.h"

namespace plumb {
namespace {

// The configuration in the form that a file can say, where that is not its own.
Result<std::optional<Config>> said_form(const Config& config, const Architecture& architecture) {
  const GgufConventions& gguf = architecture.gguf;
  if (gguf.said_as == nullptr) return std::optional<Config>();
  if (gguf.expressible != nullptr) PLUMB_TRY_STATUS(gguf.expressible(config));
  nlohmann::json keys = nlohmann::json::parse(config.json(), nullptr, false);
  keys.merge_patch(nlohmann::json::parse(gguf.said_as(config), nullptr, false));
  PLUMB_TRY_STATUS(config.status());
  PLUMB_TRY(Config said, Config::parse(keys.dump(), config.where()));
  PLUMB_TRY_STATUS(said.apply_defaults(architecture.defaults));
  return std::optional<Config>(std::move(said));
}

}  // namespace

Status convert_to_gguf(const std::filesystem::path& path, const std::filesystem::path& out,
                       const ConvertOptions& options, const WriteProgress& progress) {
  PLUMB_TRY(const Model model, Model::load(path, {}));
  const Architecture* architecture = find_architecture(model.config->model_type());
  if (architecture == nullptr) architecture = find_architecture(model.config->text_model_type());
  if (architecture == nullptr)
    return Error{ErrorCode::kInternal, path.string() + ": its architecture is gone"};
  PLUMB_TRY(const std::optional<Config> said, said_form(*model.config, *architecture));
  GgufConversion conversion{.name = path.stem().string(),
                            .config = said ? *said : *model.config,
                            .conventions = architecture->gguf,
                            .parameters = {},
                            .tokenizer = std::nullopt,
                            .type = options.type,
                            .threads = options.threads};
  for (std::size_t i = 0; i < model.network.weights.size(); ++i) {
    conversion.parameters.push_back({model.network.graph.params[i].name, model.network.weights[i]});
  }
  PLUMB_TRY(conversion.tokenizer, load_gguf_tokenizer(path, *model.config));
  PLUMB_TRY_STATUS(write_gguf(conversion, out, progress));
  if (options.caveat && architecture->gguf.caveats != nullptr) {
    for (const std::string& sentence : architecture->gguf.caveats(*model.config))
      options.caveat(sentence);
  }
  return {};
}

}  // namespace plumb
