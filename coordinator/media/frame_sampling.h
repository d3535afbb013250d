// Which frames of a video stand for it.
#pragma once

#include <cstdint>
#include <vector>

namespace beryl::media {

constexpr double kUnknownFps = 24;  // what the reference assumes

// Indices of at most `num_frames` of `total` frames, evenly spread from the first on: floor(i *
// total / num_frames), as in the reference, so the last frame of a long video is not among them.
// All frames where there are fewer.
std::vector<uint32_t> sample_frames(uint32_t total, uint32_t num_frames);

// How many of `total` frames of a video with `source_fps` are taken for `fps` a second: at least
// one, at most `num_frames`. `fps` 0: `num_frames`.
uint32_t count_samples(uint32_t total, double source_fps, double fps, uint32_t num_frames);

}  // namespace beryl::media
