// Post-processors of tokenizer.json, for a single text (`tokenizers` 0.23, src/processors).
// ByteLevel only moves offsets, which Plumb does not report.
#include "text/post_processor.h"

#include <fmt/format.h>

#include <utility>

namespace plumb {
namespace {

using Part = PostProcessor::Part;

constexpr std::size_t kMaxParts = 64;

Result<std::vector<TokenId>> read_ids(const Json& json) {
  PLUMB_TRY(const Json list, json.at("ids"));
  PLUMB_TRY(const simdjson::dom::array items, list.array());
  std::vector<TokenId> ids;
  for (const simdjson::dom::element element : items) {
    PLUMB_TRY(const std::int64_t id, list.item(element, ids.size()).integer(0, Vocabulary::kMaxId));
    ids.push_back(static_cast<TokenId>(id));
  }
  return ids;
}

Result<Part> read_part(const Json& json, const Json& processor) {
  PLUMB_TRY(const std::optional<Json> sequence, json.find("Sequence"));
  if (sequence) {
    PLUMB_TRY(const std::string_view name, sequence->string_at("id"));
    if (name != "A") return sequence->error(fmt::format("names the sequence \"{}\", not A", name));
    return Part(PostProcessor::TextPart{});
  }
  PLUMB_TRY(const Json special, json.at("SpecialToken"));
  PLUMB_TRY(const std::string_view name, special.string_at("id"));
  PLUMB_TRY(const Json tokens, processor.at("special_tokens"));
  PLUMB_TRY(const Json token, tokens.at(name));
  PLUMB_TRY(std::vector<TokenId> ids, read_ids(token));
  return Part(std::move(ids));
}

Status read_template(const Json& json, PostProcessor& out) {
  PLUMB_TRY(const Json list, json.at("single"));
  PLUMB_TRY(const simdjson::dom::array items, list.array());
  if (items.size() > kMaxParts) {
    return list.error(fmt::format("has {} parts, over the limit of {}", items.size(), kMaxParts));
  }
  PostProcessor::Template parts;
  for (const simdjson::dom::element element : items) {
    PLUMB_TRY(Part part, read_part(list.item(element, parts.size()), json));
    parts.push_back(std::move(part));
  }
  out.add(std::move(parts));
  return {};
}

// BertProcessing and RobertaProcessing: cls, the text, sep; each written ["piece", id].
Status read_cls_sep(const Json& json, PostProcessor& out) {
  PostProcessor::Template parts;
  for (const std::string_view key : {"cls", "sep"}) {
    PLUMB_TRY(const Json token, json.at(key));
    PLUMB_TRY(const simdjson::dom::array pair, token.array());
    if (pair.size() != 2)
      return token.error(fmt::format("must hold a piece and an id, not {} values", pair.size()));
    PLUMB_TRY(const std::int64_t id,
              token.item(pair.at(1).value(), 1).integer(0, Vocabulary::kMaxId));
    parts.emplace_back(std::vector<TokenId>{static_cast<TokenId>(id)});
    if (key == "cls") parts.emplace_back(PostProcessor::TextPart{});
  }
  out.add(std::move(parts));
  return {};
}

}  // namespace

void PostProcessor::add_edges(std::optional<TokenId> first, std::optional<TokenId> last) {
  Template parts;
  if (first) parts.emplace_back(std::vector<TokenId>{*first});
  parts.emplace_back(TextPart{});
  if (last) parts.emplace_back(std::vector<TokenId>{*last});
  add(std::move(parts));
}

std::vector<TokenId> PostProcessor::special_ids() const {
  std::vector<TokenId> all;
  for (const Template& parts : templates_) {
    for (const Part& part : parts) {
      if (const auto* const ids = std::get_if<std::vector<TokenId>>(&part))
        all.insert(all.end(), ids->begin(), ids->end());
    }
  }
  return all;
}

std::vector<TokenId> PostProcessor::apply(std::vector<TokenId> ids) const {
  for (const Template& parts : templates_) {
    std::vector<TokenId> out;
    for (const Part& part : parts) {
      const auto* const special = std::get_if<std::vector<TokenId>>(&part);
      const std::vector<TokenId>& added = special != nullptr ? *special : ids;
      out.insert(out.end(), added.begin(), added.end());
    }
    ids = std::move(out);
  }
  return ids;
}

Status read_post_processor(const Json& json, PostProcessor& out) {
  PLUMB_TRY(const std::string_view type, json.string_at("type"));
  if (type == "ByteLevel") return {};
  if (type == "TemplateProcessing") return read_template(json, out);
  if (type == "BertProcessing" || type == "RobertaProcessing") return read_cls_sep(json, out);
  if (type == "Sequence") {
    PLUMB_TRY(const Json list, json.at("processors"));
    PLUMB_TRY(const simdjson::dom::array items, list.array());
    std::size_t index = 0;
    for (const simdjson::dom::element element : items) {
      PLUMB_TRY_STATUS(read_post_processor(list.item(element, index++), out));
    }
    return {};
  }
  return Error{ErrorCode::kUnsupported,
               fmt::format("{} has the unknown post-processor \"{}\"", json.where(), type)};
}

}  // namespace plumb
