// The EXIF tag that says how a camera was held.
#pragma once

#include <string_view>

#include "coordinator/media/rgb_image.h"

namespace beryl::media {

// The tag of `exif`, a TIFF block with or without "Exif\0\0" in front: 1 (upright) to 8. 1 where
// there is none or the block is damaged.
int exif_orientation(std::string_view exif);

// Turns and mirrors so that the picture is upright.
RgbImage apply_orientation(RgbImage image, int orientation);

}  // namespace beryl::media
