// PLUMB_CHECK(condition): an error of the programmer, always on; prints file, line and condition,
// and aborts. Nothing that a file, a request or a socket can send may reach one: those are answered
// with Result (core/result.h).
#pragma once

namespace plumb {

[[noreturn]] void check_failed(const char* file, int line, const char* condition);

#define PLUMB_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::plumb::check_failed(__FILE__, __LINE__, #condition))

}  // namespace plumb
