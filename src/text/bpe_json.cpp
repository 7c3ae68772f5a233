// The BPE model of tokenizer.json (`tokenizers` 0.23, src/models/bpe/serialization.rs).
#include <fmt/format.h>

#include <utility>

#include "text/bpe.h"
#include "text/word_models.h"

namespace plumb {
namespace {

constexpr TokenId kNone = -1;

// A merge is written "left right" or ["left", "right"]; none when it is neither.
std::optional<std::pair<std::string_view, std::string_view>> pair_of(
    simdjson::dom::element element) {
  std::string_view left;
  std::string_view right;
  if (element.get(left) == simdjson::SUCCESS) {
    const std::size_t space = left.find(' ');
    if (space == std::string_view::npos || left.find(' ', space + 1) != std::string_view::npos)
      return std::nullopt;
    return std::pair(left.substr(0, space), left.substr(space + 1));
  }
  simdjson::dom::array items;
  if (element.get(items) != simdjson::SUCCESS || items.size() != 2) return std::nullopt;
  if (items.at(0).get(left) != simdjson::SUCCESS) return std::nullopt;
  if (items.at(1).get(right) != simdjson::SUCCESS) return std::nullopt;
  return std::pair(left, right);
}

Result<std::vector<BpeMerge>> read_merges(const Json& json, const Vocabulary& vocabulary,
                                          const BpeOptions& options) {
  PLUMB_TRY(const simdjson::dom::array items, json.array());
  std::vector<BpeMerge> merges;
  std::string merged;
  for (const simdjson::dom::element element : items) {
    const auto error = [&](std::string_view problem) {
      return json.item(element, merges.size()).error(problem);
    };
    const auto pair = pair_of(element);
    if (!pair) return error("must be two pieces, as an array or with one space between them");
    const auto [left, right] = *pair;
    const std::size_t prefix = options.continuing_subword_prefix.size();
    if (right.size() < prefix)
      return error("has a right side shorter than continuing_subword_prefix");
    merged.assign(left).append(right.substr(prefix));
    const auto id_of = [&](std::string_view piece) { return vocabulary.id(piece).value_or(kNone); };
    const BpeMerge merge{id_of(left), id_of(right), id_of(merged),
                         static_cast<std::uint32_t>(merges.size())};
    const std::string_view absent = merge.left == kNone     ? left
                                    : merge.right == kNone  ? right
                                    : merge.merged == kNone ? std::string_view(merged)
                                                            : std::string_view();
    if (!absent.empty() || merge.merged == kNone) {
      return error(fmt::format("names \"{}\", which is not in the vocabulary", absent));
    }
    merges.push_back(merge);
  }
  return merges;
}

Status check_no_dropout(const Json& json) {
  PLUMB_TRY(const std::optional<Json> dropout, json.find("dropout"));
  if (!dropout) return {};
  PLUMB_TRY(const double rate, dropout->number());
  if (rate != 0) return dropout->error("asks for random merges, which have no one answer");
  return {};
}

}  // namespace

Result<TokenModelPtr> read_bpe(const Json& json, Vocabulary& vocabulary) {
  PLUMB_TRY(const Json pieces, json.at("vocab"));
  PLUMB_TRY_STATUS(read_vocabulary(pieces, vocabulary));
  PLUMB_TRY_STATUS(check_no_dropout(json));
  PLUMB_TRY(const std::optional<std::string_view> unknown, json.find_string("unk_token"));
  PLUMB_TRY(const std::optional<std::string_view> prefix,
            json.find_string("continuing_subword_prefix"));
  PLUMB_TRY(const std::optional<std::string_view> suffix, json.find_string("end_of_word_suffix"));
  PLUMB_TRY(const bool fuse_unknown, json.flag("fuse_unk", false));
  PLUMB_TRY(const bool byte_fallback, json.flag("byte_fallback", false));
  PLUMB_TRY(const bool ignore_merges, json.flag("ignore_merges", false));
  BpeOptions options{std::nullopt,
                     std::string(prefix.value_or("")),
                     std::string(suffix.value_or("")),
                     fuse_unknown,
                     byte_fallback,
                     ignore_merges};
  if (unknown) {
    options.unknown = vocabulary.id(*unknown);
    if (!options.unknown)
      return json.error(
          fmt::format("has the unk_token \"{}\", which is not in the vocabulary", *unknown));
  }
  PLUMB_TRY(const Json list, json.at("merges"));
  PLUMB_TRY(const std::vector<BpeMerge> merges, read_merges(list, vocabulary, options));
  Result<TokenModelPtr> model = make_bpe(vocabulary, merges, std::move(options));
  if (!model.ok()) return list.error(fmt::format("cannot be used: {}", model.error().message));
  return model;
}

}  // namespace plumb
