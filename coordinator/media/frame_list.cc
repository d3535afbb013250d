#include "coordinator/media/frame_list.h"

#include <fmt/format.h>

#include <algorithm>

namespace beryl::media {

base::Expected<std::vector<std::string_view>> split_frame_list(std::string_view data,
                                                               const VideoLimits& limits) {
  std::vector<std::string_view> frames;
  for (;;) {
    const size_t comma = std::min(data.find(','), data.size());
    if (comma == 0) {
      return base::invalid_argument({},
                                    fmt::format("Frame {} of the video is empty.", frames.size()));
    }
    if (frames.size() == limits.max_listed_frames) {
      return base::invalid_argument(
          {}, fmt::format("The video lists more than {} frames.", limits.max_listed_frames));
    }
    frames.push_back(data.substr(0, comma));
    if (comma == data.size()) return frames;
    data.remove_prefix(comma + 1);
  }
}

}  // namespace beryl::media
