// What passes between the coordinator and the process that decodes one video. Both are built from
// the same tree and run on the same machine, so plain structs do.
//   to it:   one sealed file as standard input: DecodingJob, then the bytes of the video
//   from it: FrameHead and the pixels of each frame in order, at last a FrameHead that is no frame
// What comes from it is believed no more than what a client sends: the process may have been taken
// over.
#pragma once

#include <cstdint>
#include <type_traits>

namespace beryl::media {

constexpr uint32_t kDecodingProtocol = 0xbe710001;

struct DecodingJob {
  uint32_t protocol = kDecodingProtocol;
  uint32_t num_frames = 0;  // VideoSampling
  double fps = 0;
  uint32_t budget = 0;  // soft tokens of a frame
  uint32_t max_seconds = 0;
  uint64_t max_pixels = 0;
  uint32_t max_coded_frames = 0;
  uint32_t max_cpu_s = 0;
  uint64_t max_memory_bytes = 0;
};

// Why there are no frames. Numbers, not texts: whatever the decoder writes could hold its memory.
enum class Refusal : uint32_t {
  kNone,
  kNotAVideo,      // no format that is read here
  kNoPictures,     // no video stream, or no frame in it
  kCodec,          // coded in a way that is not read here
  kTooManyPixels,  // `value` pixels
  kTooManyFrames,
  kTooLong,    // `value` seconds
  kDamaged,    // or it ends early
  kMemory,     // more than it may use
  kNoSandbox,  // the kernel does not confine the process as it must: nothing was read
};

struct FrameHead {
  Refusal refusal = Refusal::kNone;
  uint32_t is_last = 0;  // no frame: the end
  uint32_t width = 0;    // pixels; width * height * 3 bytes follow
  uint32_t height = 0;
  double timestamp_s = 0;  // from the first frame of the video
  uint64_t value = 0;
};

static_assert(std::is_trivially_copyable_v<DecodingJob> && std::is_trivially_copyable_v<FrameHead>);

}  // namespace beryl::media
