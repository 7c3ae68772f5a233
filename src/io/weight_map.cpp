// Parameters by their canonical names, out of whatever names and forms the files use.
#include "io/weight_map.h"

#include <algorithm>
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
      return rotary_halves_view(std::move(weight), rule.count);
    case NameRule::Form::kTiledRows:
      return tiled_rows_view(std::move(weight), rule.tiles, TileOrder::kGrouped);
    case NameRule::Form::kTiledColumns:
      return tiled_columns_view(std::move(weight), rule.tiles, TileOrder::kGrouped);
    case NameRule::Form::kLogOfMinus:
      return log_of_minus_view(std::move(weight));
    case NameRule::Form::kRowRange: {
      auto first = checked_mul<std::int64_t>(rule.first, shape.empty() ? 1 : shape[0]);
      if (rule.first < 0 && first && !weight->shape().empty())
        first = checked_add(*first, weight->shape()[0]);
      return strided_view(std::move(weight), shape, first.value_or(-1), 1);
    }
  }
  return Error{ErrorCode::kInternal, "a name rule has an unknown form"};
}

// One part as a matrix of groups * part.rows rows of `in` elements; `first` is its first row in its tensor.
Result<WeightPtr> part_of_split(WeightPtr weight, const SplitRule::Part& part, std::int64_t groups,
                                std::int64_t in, std::int64_t first) {
  const Shape rows = {groups * part.rows, in};
  switch (part.layout) {
    case SplitRule::Layout::kRows:
      return strided_view(std::move(weight), rows, first, 1);
    case SplitRule::Layout::kStack:
      if (weight->shape() != Shape{groups, part.rows, in}) break;
      return same_rows_view(std::move(weight), rows);
    case SplitRule::Layout::kTransposedStack: {
      if (weight->shape() != Shape{groups, in, part.rows}) break;
      PLUMB_TRY(WeightPtr turned, transposed_groups_view(std::move(weight), groups));
      return same_rows_view(std::move(turned), rows);
    }
  }
  return Error{ErrorCode::kCorrupt, "another shape"};
}

}  // namespace

WeightMap::WeightMap(std::shared_ptr<const TensorSource> source, FileConventions conventions,
                     std::string_view settings)
    : source_(std::move(source)), conventions_(std::move(conventions)) {
  nlohmann::json object = nlohmann::json::parse(settings, nullptr, false);
  if (!object.is_object()) object = nlohmann::json::object();
  std::vector<Formed> formed = formed_parameters({source_, std::move(object)});
  std::erase_if(formed, [&](const Formed& parameter) {
    return std::any_of(conventions_.tables.begin(), conventions_.tables.end(), [&](auto pattern) {
      return match_pattern(pattern, parameter.parts[0]->name).has_value();
    });
  });
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

std::optional<WeightMap::Split> WeightMap::locate_split(std::string_view name) const {
  for (const SplitRule& rule : conventions_.splits) {
    const auto match = match_pattern(rule.name, name);
    if (!match) continue;
    Split split{&rule, {}};
    for (const SplitRule::Part& part : rule.parts) {
      if (const auto entry = find(fill_pattern(part.stored, *match)))
        split.entries.push_back(*entry);
    }
    if (split.entries.size() == rule.parts.size()) return split;
  }
  return std::nullopt;
}

Result<WeightPtr> WeightMap::weight_of(const Entry& entry) const {
  return entry.formed ? *entry.formed : stored_weight(source_, *entry.stored);
}

Result<WeightPtr> WeightMap::take(std::string_view name, const Shape& shape) {
  if (const auto split = locate_split(name)) return take_split(name, shape, *split);
  if (const auto place = locate(name)) return take_place(name, shape, *place);
  return Error{ErrorCode::kCorrupt, source_->where() + ": the tensor \"" + std::string(name) +
                                        "\" of shape " + to_string(shape) + " is missing"};
}

Error WeightMap::misshapen(const Entry& tensor, std::string_view name, const Shape& shape) const {
  return {ErrorCode::kCorrupt,
          source_->where() + ": the tensor \"" + tensor.name + "\" has the shape " +
              to_string(tensor.shape()) + ", which does not give \"" + std::string(name) +
              "\" of shape " + to_string(shape)};
}

Result<WeightPtr> WeightMap::take_place(std::string_view name, const Shape& shape,
                                        const Place& place) {
  Entry& tensor = entries_[place.entry];
  PLUMB_TRY(WeightPtr weight, weight_of(tensor));
  if (place.rule != nullptr) {
    for (const NameRule::Form form : place.rule->forms) {
      auto part = apply_form(std::move(weight), *place.rule, form, place.expert, shape);
      if (!part.ok()) return misshapen(tensor, name, shape);
      weight = std::move(part).value();
    }
  }
  if (weight->shape() != shape) return misshapen(tensor, name, shape);
  if (taken_.emplace(name).second) tensor.claimed += element_count(shape).value_or(0);
  return weight;
}

Result<WeightPtr> WeightMap::take_split(std::string_view name, const Shape& shape,
                                        const Split& split) {
  const std::int64_t groups = split.rule->groups;
  std::vector<RunPart> parts;
  std::map<std::size_t, std::int64_t> next;  // by entry: the first row that no part has read
  for (std::size_t i = 0; i < split.entries.size(); ++i) {
    const SplitRule::Part& part = split.rule->parts[i];
    const Entry& tensor = entries_[split.entries[i]];
    PLUMB_TRY(WeightPtr weight, weight_of(tensor));
    const auto rows = checked_mul(groups, part.rows);
    if (!rows || shape.size() != 2) return misshapen(tensor, name, shape);
    auto piece = part_of_split(std::move(weight), part, groups, shape[1], next[split.entries[i]]);
    if (!piece.ok()) return misshapen(tensor, name, shape);
    next[split.entries[i]] += *rows;
    parts.push_back({std::move(piece).value(), part.rows});
  }
  auto joined = joined_runs_view(std::move(parts), groups);
  const Entry& first = entries_[split.entries.front()];
  if (!joined.ok() || joined.value()->shape() != shape) return misshapen(first, name, shape);
  if (taken_.emplace(name).second) {
    for (std::size_t i = 0; i < split.entries.size(); ++i)
      entries_[split.entries[i]].claimed += groups * split.rule->parts[i].rows * shape[1];
  }
  return joined;
}

bool WeightMap::has(std::string_view name) const {
  return locate_split(name).has_value() || locate(name).has_value();
}

bool WeightMap::is_read(const Entry& tensor) const {
  const std::int64_t elements = element_count(tensor.shape()).value_or(0);
  return tensor.claimed >= elements && (elements > 0 || taken_.contains(tensor.name));
}

std::vector<WeightMap::Skipped> WeightMap::skipped() const {
  std::vector<Skipped> tensors;
  for (const Entry& tensor : entries_) {
    if (!is_read(tensor)) tensors.push_back({.name = tensor.name, .shape = tensor.shape()});
  }
  return tensors;
}

Status WeightMap::finish() const {
  std::string named;
  std::size_t count = 0;
  for (const Entry& tensor : entries_) {
    if (is_read(tensor)) continue;
    bool ignored = is_activation_scale(tensor.name);
    for (const std::string_view pattern : conventions_.ignored)
      ignored = ignored || match_pattern(pattern, tensor.name);
    if (conventions_.ignored_from_layer) {
      const auto match = match_pattern(conventions_.layers, tensor.name);
      ignored = ignored || (match && number_of(match->layer).value_or(0) >=
                                         *conventions_.ignored_from_layer);
    }
    if (ignored) continue;
    if (++count > kNamedAtMost) continue;
    named += (count == 1 ? "\"" : ", \"") + tensor.name + "\" " + to_string(tensor.shape());
    if (tensor.claimed > 0)
      named += " (" + std::to_string(tensor.claimed) + " of " +
               std::to_string(element_count(tensor.shape()).value_or(0)) + " elements read)";
  }
  if (count == 0) return {};
  if (count > kNamedAtMost) named += " and " + std::to_string(count - kNamedAtMost) + " more";
  return Error{ErrorCode::kCorrupt,
               source_->where() + ": the model has no use for " +
                   (count == 1 ? "the tensor " : std::to_string(count) + " tensors: ") + named};
}

}  // namespace plumb
