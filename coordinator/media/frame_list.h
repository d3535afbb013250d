// A video as a comma-separated list of pictures in base64.
#pragma once

#include <string_view>
#include <vector>

#include "coordinator/media/video/video_limits.h"
#include "parallel/base/expected.h"

namespace beryl::media {

// The parts between commas. Fails on none, too many or an empty one.
base::Expected<std::vector<std::string_view>> split_frame_list(std::string_view data,
                                                               const VideoLimits& limits);

}  // namespace beryl::media
