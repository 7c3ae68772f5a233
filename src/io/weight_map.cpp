// Parameters by their canonical names, out of whatever names and forms the files use.
#include "io/weight_map.h"

#include <charconv>
#include <utility>

#include "core/checked.h"
#include "io/forms/form.h"
#include "io/name_pattern.h"
#include "io/weight_views.h"

namespace plumb {
namespace {

constexpr std::size_t kNamedAtMost = 3;  // tensors that one error message names

std::optional<std::int64_t> number_of(std::string_view digits) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return error == std::errc() && end == digits.data() + digits.size() ? std::optional(value)
                                                                      : std::nullopt;
}

Result<WeightPtr> apply_form(WeightPtr weight, const NameRule& rule, NameRule::Form form,
                             std::int64_t expert, const Shape& shape) {
  switch (form) {
    case NameRule::Form::kSame:
      return weight;
    case NameRule::Form::kExpertSlice:
      return slice_view(std::move(weight), expert);
    case NameRule::Form::kTransposed:
      return transposed_view(std::move(weight));
    case NameRule::Form::kInterleavedRows:
      return strided_view(std::move(weight), shape, rule.first, rule.count);
    case NameRule::Form::kReshaped:
      return reshaped_view(std::move(weight), shape);
    case NameRule::Form::kLessOne:
      return less_one_view(std::move(weight));
    case NameRule::Form::kRotaryPairs:
      return rotary_pairs_view(std::move(weight), rule.count);
    case NameRule::Form::kRowRange: {
      auto first = checked_mul<std::int64_t>(rule.first, shape.empty() ? 1 : shape[0]);
      if (rule.first < 0 && first && !weight->shape().empty())
        first = checked_add(*first, weight->shape()[0]);
      return strided_view(std::move(weight), shape, first.value_or(-1), 1);
    }
  }
  return Error{ErrorCode::kInternal, "a name rule has an unknown form"};
}

}  // namespace

WeightMap::WeightMap(std::shared_ptr<const TensorSource> source, FileConventions conventions,
                     std::string_view settings)
    : source_(std::move(source)), conventions_(std::move(conventions)) {
  nlohmann::json object = nlohmann::json::parse(settings, nullptr, false);
  if (!object.is_object()) object = nlohmann::json::object();
  std::vector<Formed> formed = formed_parameters({source_, std::move(object)});
  std::map<const StoredTensor*, Formed*> made_of;  // null for the other parts of a form
  for (Formed& parameter : formed) {
    for (const StoredTensor* part : parameter.parts)
      made_of.emplace(part, part == parameter.parts[0] ? &parameter : nullptr);
  }
  for (const StoredTensor& tensor : source_->tensors()) {
    const auto made = made_of.find(&tensor);
    if (made == made_of.end()) {
      entries_.push_back({tensor.name, &tensor, std::nullopt});
    } else if (made->second != nullptr) {
      entries_.push_back({made->second->name, &tensor, std::move(made->second->weight)});
    } else {
      continue;
    }
    position_.emplace(entries_.back().name, entries_.size() - 1);
  }
  for (const NameRule& rule : conventions_.rules)
    rule_holds_.push_back(holds(rule));
}

const Shape& WeightMap::Entry::shape() const {
  return formed && formed->ok() ? formed->value()->shape() : stored->shape;
}

std::optional<std::size_t> WeightMap::find(std::string_view name) const {
  if (const auto found = position_.find(name); found != position_.end()) return found->second;
  for (const NamePrefix& prefix : conventions_.prefixes) {
    if (!name.starts_with(prefix.canonical)) continue;
    const std::string stored =
        std::string(prefix.stored) + std::string(name.substr(prefix.canonical.size()));
    if (const auto found = position_.find(stored); found != position_.end()) return found->second;
  }
  return std::nullopt;
}

bool WeightMap::holds(const NameRule& rule) const {
  if (rule.only_beside_column.empty()) return true;
  for (const Entry& tensor : entries_) {
    const Shape& shape = tensor.shape();
    const std::size_t axes = shape.size();
    if (axes < 2 || shape[axes - 1] != 1 || shape[axes - 2] < 2) continue;
    if (match_pattern(rule.only_beside_column, tensor.name)) return true;
    for (const NamePrefix& prefix : conventions_.prefixes) {
      if (!tensor.name.starts_with(prefix.stored)) continue;
      const std::string canonical =
          std::string(prefix.canonical) + tensor.name.substr(prefix.stored.size());
      if (match_pattern(rule.only_beside_column, canonical)) return true;
    }
  }
  return false;
}

std::optional<WeightMap::Place> WeightMap::locate(std::string_view name) const {
  for (std::size_t r = 0; r < conventions_.rules.size(); ++r) {
    const NameRule& rule = conventions_.rules[r];
    if (!rule_holds_[r]) continue;
    const auto match = match_pattern(rule.name, name);
    if (!match) continue;
    const auto entry = find(fill_pattern(rule.stored, *match));
    if (!entry) continue;
    return Place{*entry, &rule, number_of(match->expert).value_or(-1)};
  }
  if (const auto entry = find(name)) return Place{*entry, nullptr, 0};
  return std::nullopt;
}

Result<WeightPtr> WeightMap::take(std::string_view name, const Shape& shape) {
  const std::string parameter = "\"" + std::string(name) + "\"";
  const auto place = locate(name);
  if (!place) {
    return Error{ErrorCode::kCorrupt, source_->where() + ": the tensor " + parameter +
                                          " of shape " + to_string(shape) + " is missing"};
  }
  Entry& tensor = entries_[place->entry];
  if (tensor.formed && !tensor.formed->ok()) return tensor.formed->error();
  const Error misshapen{ErrorCode::kCorrupt, source_->where() + ": the tensor \"" + tensor.name +
                                                 "\" has the shape " + to_string(tensor.shape()) +
                                                 ", which does not give " + parameter +
                                                 " of shape " + to_string(shape)};
  WeightPtr weight =
      tensor.formed ? tensor.formed->value() : stored_weight(source_, *tensor.stored);
  if (place->rule != nullptr) {
    for (const NameRule::Form form : place->rule->forms) {
      auto part = apply_form(std::move(weight), *place->rule, form, place->expert, shape);
      if (!part.ok()) return misshapen;
      weight = std::move(part).value();
    }
  }
  if (weight->shape() != shape) return misshapen;
  if (taken_.emplace(name).second) tensor.claimed += element_count(shape).value_or(0);
  return weight;
}

bool WeightMap::has(std::string_view name) const {
  return locate(name).has_value();
}

Status WeightMap::finish() const {
  std::string named;
  std::size_t count = 0;
  for (const Entry& tensor : entries_) {
    const std::int64_t elements = element_count(tensor.shape()).value_or(0);
    if (tensor.claimed >= elements && (elements > 0 || taken_.contains(tensor.name))) continue;
    bool ignored = is_activation_scale(tensor.name);
    for (const std::string_view pattern : conventions_.ignored)
      ignored = ignored || match_pattern(pattern, tensor.name);
    if (ignored) continue;
    if (++count > kNamedAtMost) continue;
    named += (count == 1 ? "\"" : ", \"") + tensor.name + "\" " + to_string(tensor.shape());
    if (tensor.claimed > 0)
      named += " (" + std::to_string(tensor.claimed) + " of " + std::to_string(elements) +
               " elements read)";
  }
  if (count == 0) return {};
  if (count > kNamedAtMost) named += " and " + std::to_string(count - kNamedAtMost) + " more";
  return Error{ErrorCode::kCorrupt,
               source_->where() + ": the model has no use for " +
                   (count == 1 ? "the tensor " : std::to_string(count) + " tensors: ") + named};
}

}  // namespace plumb
