// What the media library makes of a picture: everything the vision tower needs, still as bytes.
// The worker scales by 1/255 and cuts the patches; three bytes a pixel travel, not twelve.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace beryl::media {

constexpr uint32_t kPatchSize = 16;   // pixels a side
constexpr uint32_t kPoolingSize = 3;  // patches a side that become one soft token
constexpr uint32_t kCellSize = 48;    // pixels a side of one soft token
static_assert(kCellSize == kPatchSize * kPoolingSize);

// Soft tokens a picture may have at most; the published model knows these and no others.
constexpr std::array<uint32_t, 5> kSoftTokenBudgets = {70, 140, 280, 560, 1120};
constexpr uint32_t kDefaultImageBudget = 280;
constexpr uint32_t kDefaultVideoFrameBudget = 70;

// Goes into every hash. To be raised when the pixels made from the same bytes change.
constexpr uint32_t kPreprocessingVersion = 1;

// The first 16 bytes of a SHA-256 over version, shape and pixels. Cryptographic on purpose: caches
// are shared between clients, and whoever could make two pictures collide could have the features
// of one used for the other.
using ContentHash = std::array<uint8_t, 16>;

struct PreparedImage {
  uint32_t width = 0;           // pixels, a multiple of 48
  uint32_t height = 0;          // pixels, a multiple of 48
  std::vector<uint8_t> pixels;  // [height, width, 3], red first, resized
  ContentHash hash = {};

  uint32_t grid_width() const { return width / kPatchSize; }    // patches
  uint32_t grid_height() const { return height / kPatchSize; }  // patches
  uint32_t num_patches() const { return grid_width() * grid_height(); }
  uint32_t num_soft_tokens() const { return (width / kCellSize) * (height / kCellSize); }
};

// A picture and the place of its soft tokens in a prompt: `first_soft_token` is the index of the
// first of num_soft_tokens() equal ids.
struct PlacedImage {
  std::shared_ptr<const PreparedImage> image;
  size_t first_soft_token = 0;
};

}  // namespace beryl::media
