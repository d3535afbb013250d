#include "coordinator/media/flatten.h"

#include "coordinator/media/rgb_image.h"

namespace beryl::media {

void flatten_over_white(std::vector<uint8_t>& rgba) {
  constexpr uint32_t kWhite = 255;
  const size_t num_pixels = rgba.size() / 4;
  for (size_t i = 0; i < num_pixels; ++i) {
    const uint8_t* const from = rgba.data() + i * 4;
    const uint32_t alpha = from[3];
    for (size_t channel = 0; channel < kNumChannels; ++channel) {
      const uint32_t mixed = from[channel] * alpha + kWhite * (kWhite - alpha);
      rgba[i * kNumChannels + channel] = static_cast<uint8_t>((mixed + kWhite / 2) / kWhite);
    }
  }
  rgba.resize(num_pixels * kNumChannels);
}

}  // namespace beryl::media
