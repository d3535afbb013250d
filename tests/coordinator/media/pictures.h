// Pictures for tests: drawn by a formula, or recorded ones from tests/data/media.
#pragma once

#include <cstdint>
#include <string>

#include "coordinator/media/rgb_image.h"

namespace beryl::media {

// The picture that tests/data/media/golden.json was recorded from (its `formula`).
RgbImage golden_picture(uint32_t width, uint32_t height);

// A file of tests/data/media, as bytes.
std::string recorded_file(const std::string& name);

// A recorded PNG, read with libpng directly, so that it does not depend on the decoders under test.
RgbImage recorded_picture(const std::string& name);

// The largest difference of two pictures of equal size; 256 if the sizes differ.
int max_difference(const RgbImage& a, const RgbImage& b);

}  // namespace beryl::media
