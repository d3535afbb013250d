// Bicubic resizing with antialiasing, in the integer arithmetic that the model's own preprocessing
// uses. One level of one pixel matters: it can move image features by a hundredth.
#pragma once

#include "coordinator/media/rgb_image.h"
#include "coordinator/media/target_size.h"

namespace beryl::media {

// Width first, then height, each to 8 bits; a side of unchanged size is left alone. No side is
// zero.
RgbImage resize_bicubic(RgbImage image, PixelSize size);

}  // namespace beryl::media
