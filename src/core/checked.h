// Arithmetic on counts, offsets and sizes that came from outside: nothing when it does not fit,
// never a wrapped number.
#pragma once
#include <concepts>
#include <limits>
#include <optional>
#include <span>

namespace plumb {

template <std::integral T>
[[nodiscard]] constexpr std::optional<T> checked_add(T a, T b) {
  T result{};
  if (__builtin_add_overflow(a, b, &result)) return std::nullopt;
  return result;
}

template <std::integral T>
[[nodiscard]] constexpr std::optional<T> checked_mul(T a, T b) {
  T result{};
  if (__builtin_mul_overflow(a, b, &result)) return std::nullopt;
  return result;
}

template <std::integral To, std::integral From>
[[nodiscard]] constexpr std::optional<To> narrow(From value) {
  To result{};
  if (__builtin_add_overflow(value, From{0}, &result)) return std::nullopt;
  return result;
}

// The product of `factors`; 1 when empty.
template <std::integral T>
[[nodiscard]] constexpr std::optional<T> checked_product(std::span<const T> factors) {
  T result{1};
  for (const T factor : factors) {
    if (__builtin_mul_overflow(result, factor, &result)) return std::nullopt;
  }
  return result;
}

}  // namespace plumb
