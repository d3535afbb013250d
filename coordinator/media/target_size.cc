#include "coordinator/media/target_size.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "coordinator/media/prepared_image.h"
#include "parallel/base/assert.h"

namespace beryl::media {
namespace {

constexpr uint64_t kPatchesPerToken = uint64_t{kPoolingSize} * kPoolingSize;
constexpr uint64_t kPixelsPerPatch = uint64_t{kPatchSize} * kPatchSize;

// The whole cells in a scaled side, as pixels.
uint64_t whole_cells(double factor, uint32_t side) {
  return static_cast<uint64_t>(std::floor(factor * side / kCellSize)) * kCellSize;
}

// A side shorter than one cell becomes one; the other follows the aspect ratio as far as it may.
uint64_t long_side(uint32_t longer, uint32_t shorter, uint32_t budget) {
  return std::min<uint64_t>(longer / shorter, budget) * kCellSize;
}

}  // namespace

bool is_soft_token_budget(uint32_t budget) {
  return std::find(kSoftTokenBudgets.begin(), kSoftTokenBudgets.end(), budget) !=
         kSoftTokenBudgets.end();
}

base::Expected<PixelSize> target_size(PixelSize size, uint32_t budget) {
  BERYL_ASSERT(size.width > 0 && size.height > 0, "a picture of {}x{}", size.width, size.height);
  BERYL_ASSERT(is_soft_token_budget(budget), "a budget of {} soft tokens", budget);
  const uint64_t max_pixels = kPatchesPerToken * budget * kPixelsPerPatch;
  const double pixels = static_cast<double>(size.height) * size.width;
  const double factor = std::sqrt(static_cast<double>(max_pixels) / pixels);
  uint64_t height = whole_cells(factor, size.height);
  uint64_t width = whole_cells(factor, size.width);
  if (height == 0 && width > 0) {
    height = kCellSize;
    width = long_side(size.width, size.height, budget);
  } else if (width == 0 && height > 0) {
    width = kCellSize;
    height = long_side(size.height, size.width, budget);
  }
  if (width == 0 || height == 0 || width * height > max_pixels) {
    return base::invalid_argument(
        {}, fmt::format("A picture of {}x{} pixels cannot be resized to {} soft tokens.",
                        size.width, size.height, budget));
  }
  return PixelSize{static_cast<uint32_t>(width), static_cast<uint32_t>(height)};
}

}  // namespace beryl::media
