// Result<T>: a value or an Error; Status: nothing or an Error. std::expected needs C++23, so this
// is the small part of it used here. Untrusted bytes and user input are answered with these, never
// with a check that aborts.
#pragma once
#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace plumb {

enum class ErrorCode : unsigned char {
  kInvalidArgument,  // the caller's fault; HTTP 400
  kNotFound,
  kCorrupt,  // a file that breaks its own format
  kUnsupported,
  kOutOfMemory,
  kOverloaded,  // HTTP 429 or 503
  kCancelled,
  kInternal,  // our fault; HTTP 500
};

struct Error {
  ErrorCode code;
  std::string message;  // one sentence naming the file, field or tensor, the value and the limit
};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}  // NOLINT(google-explicit-constructor)

  Result(Error error) : state_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return state_.index() == 0; }
  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  const Error& error() const { return std::get<1>(state_); }

 private:
  std::variant<T, Error> state_;
};

class [[nodiscard]] Status {
 public:
  Status() = default;

  Status(Error error) : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return !error_.has_value(); }
  const Error& error() const { return *error_; }

 private:
  std::optional<Error> error_;
};

#define PLUMB_TRY_CONCAT2(a, b) a##b
#define PLUMB_TRY_CONCAT(a, b) PLUMB_TRY_CONCAT2(a, b)
// NOLINTBEGIN(bugprone-macro-parentheses): `decl` is a declaration.
// PLUMB_TRY(auto header, read_header(file)); returns the Error to the caller when there is one.
#define PLUMB_TRY(decl, expr)                                                                  \
  auto PLUMB_TRY_CONCAT(try_, __LINE__) = (expr);                                              \
  if (!PLUMB_TRY_CONCAT(try_, __LINE__).ok()) return PLUMB_TRY_CONCAT(try_, __LINE__).error(); \
  decl = std::move(PLUMB_TRY_CONCAT(try_, __LINE__)).value()
// PLUMB_TRY_STATUS(check(file)); the same for a Status.
#define PLUMB_TRY_STATUS(expr)                                                                \
  if (auto PLUMB_TRY_CONCAT(try_, __LINE__) = (expr); !PLUMB_TRY_CONCAT(try_, __LINE__).ok()) \
  return PLUMB_TRY_CONCAT(try_, __LINE__).error()
// NOLINTEND(bugprone-macro-parentheses)

}  // namespace plumb
