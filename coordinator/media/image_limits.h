// What a picture may be. Checked before memory for its pixels is allocated.
#pragma once

#include <cstddef>
#include <cstdint>

#include "coordinator/media/target_size.h"
#include "parallel/base/expected.h"

namespace beryl::media {

struct ImageLimits {
  size_t max_image_bytes = size_t{32} << 20;       // the file
  uint32_t max_image_side = 32'768;                // pixels
  uint64_t max_image_pixels = uint64_t{32} << 20;  // decoding takes 3 to 12 bytes of memory each
  uint32_t max_aspect_ratio = 1'000;               // longer side : shorter side
  uint32_t max_jpeg_scans = 100;  // of a progressive JPEG; each one goes over the whole picture
};

// The error says which limit it is.
base::Status check_image_size(PixelSize size, const ImageLimits& limits);

}  // namespace beryl::media
