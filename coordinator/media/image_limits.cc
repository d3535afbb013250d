#include "coordinator/media/image_limits.h"

#include <fmt/format.h>

#include <algorithm>

namespace beryl::media {
namespace {

base::Status refuse(PixelSize size, std::string_view why) {
  return base::invalid_argument(
      {}, fmt::format("The picture has {}x{} pixels; {}.", size.width, size.height, why));
}

}  // namespace

base::Status check_image_size(PixelSize size, const ImageLimits& limits) {
  const uint32_t longer = std::max(size.width, size.height);
  const uint32_t shorter = std::min(size.width, size.height);
  if (shorter == 0) return refuse(size, "it must have at least one");
  if (longer > limits.max_image_side) {
    return refuse(size, fmt::format("a side may have at most {}", limits.max_image_side));
  }
  if (uint64_t{size.width} * size.height > limits.max_image_pixels) {
    return refuse(size, fmt::format("at most {} in all are allowed", limits.max_image_pixels));
  }
  if (longer > uint64_t{shorter} * limits.max_aspect_ratio) {
    return refuse(size, fmt::format("one side may be at most {} times as long as the other",
                                    limits.max_aspect_ratio));
  }
  return base::Status::ok();
}

}  // namespace beryl::media
