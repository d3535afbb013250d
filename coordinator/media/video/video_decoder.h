// Decodes a stranger's video in a process of its own, which is confined (sandbox.h) and ends with
// the video: whatever the file does to it, this process and other requests go on.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/media/rgb_image.h"
#include "coordinator/media/stop_condition.h"
#include "coordinator/media/video/decoding_protocol.h"
#include "coordinator/media/video/video_limits.h"
#include "parallel/base/expected.h"

namespace beryl::media {

// What was made of a video that was sampled.
struct DecodedFrame {
  double timestamp_s = 0;  // from the first frame of the video
  RgbImage image;          // in the size that fills its budget of soft tokens
};

class VideoDecoder {
 public:
  using OnFailure = std::function<void(std::string_view why)>;

  // `program` is beryl-decode-video. `on_failure` gets what only the log should say.
  VideoDecoder(std::string program, OnFailure on_failure);

  // Blocks; thread-safe. kInvalidArgument without a param for whatever is wrong with the video, too
  // large or too slow included; kCancelled or kDeadlineExceeded where `stop` ended it;
  // kNotImplemented where the program is missing or the kernel cannot confine it.
  base::Expected<std::vector<DecodedFrame>> decode(std::string_view bytes,
                                                   const VideoSampling& sampling, uint32_t budget,
                                                   const VideoLimits& limits,
                                                   const StopCondition& stop) const;

 private:
  std::string program_;
  OnFailure on_failure_;
};

// The program beside the one that runs now; empty where there is none.
std::string find_video_decoder();

}  // namespace beryl::media
