// From the URL in a request to prepared media. The one place where URLs of clients are followed.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "coordinator/media/image_preparer.h"
#include "coordinator/media/media_options.h"
#include "coordinator/media/stop_condition.h"
#include "coordinator/media/video/video_decoder.h"
#include "parallel/base/expected.h"

namespace beryl::media {

struct VideoFrame {
  double timestamp_s = 0;
  PreparedImagePtr image;
};

class MediaLoader {
 public:
  explicit MediaLoader(MediaOptions options);

  const MediaOptions& options() const noexcept { return options_; }

  // data:, http:, https: and file: URLs. Both block, and both are thread-safe. Errors are
  // kInvalidArgument without a param, or kCancelled or kDeadlineExceeded where `stop` ended them.
  base::Expected<PreparedImagePtr> load_image(std::string_view url, uint32_t budget,
                                              const StopCondition& stop) const;
  // A container file from anywhere, or a list of pictures: data:video/jpeg;base64,FRAME,FRAME,…
  base::Expected<std::vector<VideoFrame>> load_video(std::string_view url,
                                                     const VideoSampling& sampling,
                                                     const StopCondition& stop) const;

 private:
  base::Expected<std::vector<VideoFrame>> load_frame_list(std::string_view data,
                                                          const VideoSampling& sampling,
                                                          const StopCondition& stop) const;
  base::Expected<std::string> load_bytes(std::string_view url, size_t max_bytes,
                                         const StopCondition& stop) const;

  MediaOptions options_;
  UrlFetcher fetcher_;
  VideoDecoder video_decoder_;
};

// "MM:SS" of a time in seconds; minutes grow beyond two digits where they must.
std::string format_timestamp(double seconds);

}  // namespace beryl::media
