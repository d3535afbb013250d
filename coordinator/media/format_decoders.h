// One decoder per file format, for image_decoder.cc. Each checks the size in the header against the
// limits before it allocates, and refuses files that end too early.
#pragma once

#include <string_view>

#include "coordinator/media/image_limits.h"
#include "coordinator/media/rgb_image.h"
#include "parallel/base/expected.h"

namespace beryl::media {

struct DecodedImage {
  RgbImage image;
  int orientation = 1;  // EXIF
};

base::Expected<DecodedImage> decode_jpeg(std::string_view bytes, const ImageLimits& limits);
base::Expected<DecodedImage> decode_png(std::string_view bytes, const ImageLimits& limits);
base::Expected<DecodedImage> decode_gif(std::string_view bytes, const ImageLimits& limits);
#ifdef BERYL_WEBP
base::Expected<DecodedImage> decode_webp(std::string_view bytes, const ImageLimits& limits);
#endif

// "The PNG file is damaged: <why>." `why` comes from a library and is made printable.
base::Error damaged(std::string_view format, std::string_view why);

}  // namespace beryl::media
