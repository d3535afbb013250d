// BERYL_CHECK: an always-on check for mistakes of the caller. kernels/ depends on nothing of ours,
// so it has its own small form of BERYL_ASSERT.
#pragma once

#include <cstdio>
#include <cstdlib>

#define BERYL_CHECK(condition)                                                           \
  do {                                                                                   \
    if (!(condition)) [[unlikely]] {                                                     \
      std::fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                      \
    }                                                                                    \
  } while (false)
