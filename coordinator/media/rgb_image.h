// A decoded picture: 8 bits a channel, no alpha, upright.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace beryl::media {

constexpr size_t kNumChannels = 3;

struct RgbImage {
  uint32_t width = 0;  // pixels
  uint32_t height = 0;
  std::vector<uint8_t> pixels;  // [height, width, 3], red first
};

}  // namespace beryl::media
