#include "parallel/base/assert.h"

#include <cstdio>
#include <cstdlib>

namespace beryl::base {

void assert_failed(const char* file, int line, const char* expression,
                   const std::string& message) noexcept {
  std::fprintf(stderr, "%s:%d: assertion failed: %s%s%s\n", file, line, expression,
               message.empty() ? "" : ": ", message.c_str());
  std::fflush(stderr);
  std::abort();
}

}  // namespace beryl::base
