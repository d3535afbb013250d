// What a video may be, and which of its frames the model sees. Whatever the file claims, the
// process that decodes it gets no more than this.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace beryl::media {

struct VideoLimits {
  uint32_t max_listed_frames = 4'096;  // in a video given as a list of pictures
  uint32_t max_frames = 128;           // shown to the model
  size_t max_video_bytes = size_t{128} << 20;
  // Of container files:
  uint32_t max_video_seconds = 3'600;                   // from the first frame to the last
  uint64_t max_video_pixels = uint64_t{4096} * 2304;    // of one frame
  uint32_t max_coded_frames = 250'000;                  // in the file
  size_t max_decoder_memory_bytes = size_t{1} << 30;    // address space of one decoder
  uint32_t max_decoder_cpu_s = 60;                      // of one video
  std::chrono::milliseconds max_decoding_time{45'000};  // of one video, by the clock
};

// Which frames of a video the model sees.
struct VideoSampling {
  uint32_t num_frames = 32;  // at most
  // Of a list of pictures: the rate it was made with. Of a file: how many frames a second to take.
  // 0: not told.
  double fps = 0;
};

}  // namespace beryl::media
