// From a picture to what the vision tower reads.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "coordinator/media/image_limits.h"
#include "coordinator/media/prepared_image.h"
#include "coordinator/media/rgb_image.h"
#include "parallel/base/expected.h"

namespace beryl::media {

using PreparedImagePtr = std::shared_ptr<const PreparedImage>;

// Resized for `budget` soft tokens (one of kSoftTokenBudgets) and hashed.
base::Expected<PreparedImagePtr> prepare_image(RgbImage image, uint32_t budget);

// A picture that has its size already: hashed.
PreparedImagePtr finish_image(RgbImage resized);

// The same as prepare_image() from the bytes of a file.
base::Expected<PreparedImagePtr> prepare_image_file(std::string_view bytes, uint32_t budget,
                                                    const ImageLimits& limits);

}  // namespace beryl::media
