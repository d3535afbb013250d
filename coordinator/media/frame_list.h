// A video as a comma-separated list of pictures in base64.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "coordinator/media/media_options.h"
#include "parallel/base/expected.h"

namespace beryl::media {

// The parts between commas. Fails on none, too many or an empty one.
base::Expected<std::vector<std::string_view>> split_frame_list(std::string_view data,
                                                               const VideoLimits& limits);

// Indices of at most `num_frames` of `num_listed` frames, evenly spread from the first on.
std::vector<uint32_t> sample_frames(uint32_t num_listed, uint32_t num_frames);

}  // namespace beryl::media
