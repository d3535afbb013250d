// Pictures of a reference: PNG files, or drawn by a formula.
#pragma once

#include <filesystem>

#include "coordinator/media/rgb_image.h"
#include "kernels/vision.h"

namespace beryl::bench {

constexpr unsigned kMaxPictureSide = 1 << 15;

// An 8-bit RGB file without transparency. Throws std::runtime_error with one line.
media::RgbImage load_png(const std::filesystem::path& file);

// The same, resized for a budget of soft tokens.
media::RgbImage load_resized_png(const std::filesystem::path& file, unsigned max_soft_tokens);

// The pictures that references name by their size: channel 0 = 255 x / width, channel 1 =
// 255 y / height, channel 2 = ((x / 24 + y / 24) mod 2) * 160 + (x * y) mod 64, whole numbers.
media::RgbImage draw_picture(unsigned height, unsigned width);

inline kernels::ImageView view_of(const media::RgbImage& picture) {
  return {picture.pixels.data(), static_cast<int>(picture.height), static_cast<int>(picture.width)};
}

}  // namespace beryl::bench
