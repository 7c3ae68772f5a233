// PLUMB_CHECK's failure path.
#include "core/check.h"

#include <cstdio>
#include <cstdlib>

namespace plumb {

void check_failed(const char* file, int line, const char* condition) {
  std::fprintf(stderr, "plumb: %s:%d: internal check failed: %s\n", file, line, condition);
  std::abort();
}

}  // namespace plumb
