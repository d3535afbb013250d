// Sines and cosines of rotary position embeddings.
#pragma once

#include <cmath>
#include <cstdint>

namespace beryl::kernels::cpu {

// cos and sin [num_pairs] of position * inv_freq. The product is rounded to float32 first: the
// reference does so, and at large positions it decides the angle.
inline void rope_angles(const float* inv_freq, int num_pairs, int32_t position, float* cos,
                        float* sin) {
  for (int i = 0; i < num_pairs; ++i) {
    const float angle = static_cast<float>(position) * inv_freq[i];
    cos[i] = static_cast<float>(std::cos(static_cast<double>(angle)));
    sin[i] = static_cast<float>(std::sin(static_cast<double>(angle)));
  }
}

}  // namespace beryl::kernels::cpu
