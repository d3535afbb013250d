#include "coordinator/media/frame_sampling.h"

#include <algorithm>

namespace beryl::media {

std::vector<uint32_t> sample_frames(uint32_t total, uint32_t num_frames) {
  const uint32_t num_sampled = std::min(total, num_frames);
  std::vector<uint32_t> indices(num_sampled);
  for (uint32_t i = 0; i < num_sampled; ++i) {
    indices[i] = static_cast<uint32_t>(uint64_t{i} * total / num_sampled);
  }
  return indices;
}

uint32_t count_samples(uint32_t total, double source_fps, double fps, uint32_t num_frames) {
  if (fps <= 0) return num_frames;
  const double wanted = total / source_fps * fps;
  return static_cast<uint32_t>(std::clamp(wanted, 1.0, std::max<double>(num_frames, 1)));
}

}  // namespace beryl::media
