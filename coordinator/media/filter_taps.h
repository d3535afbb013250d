// Which source pixels make up each pixel of a resized axis, with integer weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace beryl::media {

struct FilterTaps {
  std::vector<uint32_t> first;   // [out]: first source index
  std::vector<uint32_t> count;   // [out]: taps used
  std::vector<int16_t> weights;  // [out, max_count], in units of 2^-precision
  uint32_t max_count = 0;
  int precision = 0;  // bits, at most 22

  const int16_t* weights_of(uint32_t out) const { return weights.data() + size_t{out} * max_count; }
};

// Antialiased bicubic (a = -0.5) from `in` to `out` pixels, both at least 1. The widest kernel is
// 4 * in / out + 3 taps, so the memory is bounded by about 4 * in + 3 * out weights.
FilterTaps make_bicubic_taps(uint32_t in, uint32_t out);

}  // namespace beryl::media
