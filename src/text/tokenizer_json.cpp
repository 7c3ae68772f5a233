// tokenizer.json (`tokenizers` 0.23, src/tokenizer/serialization.rs). "truncation" and "padding"
// are not applied: transformers switches them off unless a call asks for them.
#include <fmt/format.h>

#include <utility>

#include "text/json.h"
#include "text/tokenizer.h"
#include "text/tokenizer_parts.h"

namespace plumb {
namespace {

Status read_stages(const Json& root, TokenizerParts& parts) {
  PLUMB_TRY(const std::optional<Json> normalizer, root.find("normalizer"));
  if (normalizer) {
    PLUMB_TRY(parts.normalizer, read_normalizer(*normalizer));
  }
  PLUMB_TRY(const std::optional<Json> pre_tokenizer, root.find("pre_tokenizer"));
  if (pre_tokenizer) {
    PLUMB_TRY(parts.pre_tokenizer, read_pre_tokenizer(*pre_tokenizer));
  }
  PLUMB_TRY(const std::optional<Json> post_processor, root.find("post_processor"));
  if (post_processor) {
    PLUMB_TRY_STATUS(read_post_processor(*post_processor, parts.post_processor));
  }
  PLUMB_TRY(const std::optional<Json> decoder, root.find("decoder"));
  if (decoder) {
    PLUMB_TRY(parts.decoder, read_decoder(*decoder));
  }
  return {};
}

}  // namespace

Result<Tokenizer> Tokenizer::from_json(std::string_view json, std::string_view where) {
  simdjson::dom::parser parser;
  PLUMB_TRY(const Json root, parse_json(parser, json, where));
  auto parts = std::make_unique<TokenizerParts>();
  PLUMB_TRY_STATUS(read_stages(root, *parts));
  PLUMB_TRY(const Json model, root.at("model"));
  PLUMB_TRY(parts->model, read_model(model, parts->model_vocabulary));
  PLUMB_TRY(std::vector<AddedToken> tokens, read_added_tokens(root));
  if (Status added = parts->add_tokens(std::move(tokens)); !added.ok()) {
    return root.error(added.error().message);
  }
  for (const TokenId id : parts->post_processor.special_ids()) {
    if (!parts->piece(id)) {
      return root.error(fmt::format("post_processor names the id {}, which no token has", id));
    }
  }
  return Tokenizer(std::move(parts));
}

}  // namespace plumb
