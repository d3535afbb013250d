// BERYL_ASSERT: an always-on check for mistakes of ours (never for bad input). Aborts with place,
// expression and a formatted message that should carry the values involved.
#pragma once

#include <fmt/format.h>

#include <string>

namespace beryl::base {

[[noreturn]] void assert_failed(const char* file, int line, const char* expression,
                                const std::string& message) noexcept;

}  // namespace beryl::base

#define BERYL_ASSERT(condition, ...)                                                               \
  do {                                                                                             \
    if (!(condition)) [[unlikely]] {                                                               \
      ::beryl::base::assert_failed(__FILE__, __LINE__, #condition, ::fmt::format("" __VA_ARGS__)); \
    }                                                                                              \
  } while (false)
