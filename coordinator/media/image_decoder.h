// A picture file to pixels. The format is told by the content, never by a label or a name.
#pragma once

#include <optional>
#include <string_view>

#include "coordinator/media/image_limits.h"
#include "coordinator/media/rgb_image.h"
#include "parallel/base/expected.h"

namespace beryl::media {

enum class ImageFormat { kJpeg, kPng, kWebp, kGif };

std::optional<ImageFormat> sniff_image_format(std::string_view bytes);

// JPEG, PNG, WebP and the first frame of GIF (WebP where the library was found). Upright as EXIF
// says, transparency over white, 16 bits cut to 8, colour profiles ignored. Errors are
// kInvalidArgument without a param; whatever the bytes are, nothing else happens.
base::Expected<RgbImage> decode_image(std::string_view bytes, const ImageLimits& limits);

}  // namespace beryl::media
