// Which coded frames of a video have to be decoded so that the sampled ones can be seen. Pure
// arithmetic on what a container lists.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "coordinator/media/video/video_limits.h"

namespace beryl::media {

constexpr int64_t kNoTime = INT64_MIN;

// In the order of the file, which is the order of decoding.
struct CodedFrame {
  int64_t time = kNoTime;  // when it is shown, in ticks of the stream
  bool is_key = false;     // decoding can begin here
  bool is_shown = true;
};

// Packets from `first` on are decoded after a fresh start, until the first `num_times` sampled
// frames of the video are there, the latest of which is coded at `last`.
struct DecodingRun {
  size_t first = 0;
  size_t last = 0;
  size_t num_times = 0;
};

// Fewer packets are decoded rather than skipped: a start amid the stream costs something as well,
// and decoders may keep the frames before it back.
constexpr size_t kLeastSkip = 32;

struct FramePlan {
  std::vector<DecodingRun> runs;
  std::vector<int64_t> times;  // of the sampled frames, ascending
  bool has_times = true;       // false: times are the places of frames in the order they come out
  int64_t first_time = 0;
  uint32_t num_shown = 0;
};

// Without usable times (missing, or twice the same) everything up to the last sampled frame is one
// run.
FramePlan plan_frames(std::vector<CodedFrame> frames, const VideoSampling& sampling,
                      double source_fps);

}  // namespace beryl::media
