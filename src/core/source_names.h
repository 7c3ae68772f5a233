// Names as the source has them. A type's: KeyValueState is "key_value_state". An enum class's values': HeadGroups::kRepeat is "repeat", EpsPlace::kInsideRoot is
// "inside_root". The values count up from 0 without gaps, and each name begins with k.
#pragma once
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace plumb {
namespace source_names_detail {

// GCC and Clang end the text with "value = plumb::HeadGroups::kRepeat]" or, where the enum has no such value, with
// "value = (plumb::HeadGroups)7]".
template <class E, E value>
constexpr std::string_view spelling() {
  std::string_view text = __PRETTY_FUNCTION__;
  text.remove_suffix(1);
  const std::size_t semicolon =
      text.find(';', text.find("value = "));  // GCC may go on with other parameters
  if (semicolon != std::string_view::npos) text = text.substr(0, semicolon);
  const std::size_t colon = text.rfind("::k");
  const bool named = colon != std::string_view::npos &&
                     text.find(')', text.find("value = ")) == std::string_view::npos;
  return named ? text.substr(colon + 3) : std::string_view();
}

// "… T = plumb::KeyValueState]".
template <class T>
constexpr std::string_view type_spelling() {
  std::string_view text = __PRETTY_FUNCTION__;
  text = text.substr(text.find("T = ") + 4);
  text = text.substr(0, text.find_first_of(";]"));
  return text.substr(text.rfind(':') + 1);
}

// "InsideRoot" as "inside_root".
inline std::string in_lower_case(std::string_view spelling) {
  std::string name;
  for (const char c : spelling) {
    const bool upper = c >= 'A' && c <= 'Z';
    if (upper && !name.empty()) name += '_';
    name += upper ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return name;
}

inline constexpr std::size_t kMostValues = 32;

template <class E, std::size_t... I>
constexpr std::array<std::string_view, sizeof...(I)> spellings(
    std::index_sequence<I...> /*values*/) {
  return {spelling<E, static_cast<E>(I)>()...};
}

}  // namespace source_names_detail

// In order of their values.
template <class E>
std::vector<std::string> enum_names() {
  static_assert(std::is_enum_v<E>);
  using source_names_detail::kMostValues;
  constexpr auto spellings =
      source_names_detail::spellings<E>(std::make_index_sequence<kMostValues>());
  static_assert(!spellings.front().empty() && spellings.back().empty());
  std::vector<std::string> names;
  for (const std::string_view spelling : spellings) {
    if (spelling.empty()) break;
    names.push_back(source_names_detail::in_lower_case(spelling));
  }
  return names;
}

template <class T>
std::string type_name() {
  return source_names_detail::in_lower_case(source_names_detail::type_spelling<T>());
}

template <class E>
std::string enum_name(E value) {
  const auto names = enum_names<E>();
  const auto index = static_cast<std::size_t>(value);
  return index < names.size() ? names[index] : std::to_string(index);
}

}  // namespace plumb
