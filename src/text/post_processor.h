// Post-processors of tokenizer.json: the special tokens around a text (`tokenizers`,
// src/processors).
#pragma once
#include <optional>
#include <variant>
#include <vector>

#include "core/result.h"
#include "text/json.h"
#include "text/vocabulary.h"

namespace plumb {

// Templates applied one after the other; each is a list of parts.
class PostProcessor {
 public:
  struct TextPart {};  // the ids so far

  using Part = std::variant<TextPart, std::vector<TokenId>>;
  using Template = std::vector<Part>;

  void add(Template parts) { templates_.push_back(std::move(parts)); }

  // The text between these two, where they are.
  void add_edges(std::optional<TokenId> first, std::optional<TokenId> last);

  std::vector<TokenId> apply(std::vector<TokenId> ids) const;
  std::vector<TokenId> special_ids() const;  // all that it may add

 private:
  std::vector<Template> templates_;
};

// Appends the processors of `json` to `out`. An unknown type is an error that names it.
Status read_post_processor(const Json& json, PostProcessor& out);

}  // namespace plumb
