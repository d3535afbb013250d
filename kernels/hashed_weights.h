// Weights that are a pure function of (key, index), so that a model of any size runs without a file
// and every machine holds the same bits. Host and device compute the very same:
//
//   z = mix(key + index * 0x9E3779B97F4A7C15)     modulo 2^64
//   u = (z >> 40) * 2^-23 - 1                     in [-1, 1), exact in float32
//   value = bf16(offset + scale * u)              float32, one product, one sum, never fused
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/random.h"

namespace beryl::kernels {

struct HashedTensor {
  uint64_t key = 0;
  float offset = 0;
  float scale = 0;
};

BERYL_HOST_DEVICE inline uint64_t hash_mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

// To nearest, ties to even; finite values.
BERYL_HOST_DEVICE inline uint16_t round_to_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

BERYL_HOST_DEVICE inline uint16_t hashed_weight(const HashedTensor& tensor, uint64_t index) {
  const uint64_t z = hash_mix(tensor.key + index * 0x9E3779B97F4A7C15);
  const auto top = static_cast<int32_t>(z >> 40);  // 24 bits: exact in float32
  const float u = static_cast<float>(top) * 0x1p-23f - 1.0f;
#if defined(__CUDA_ARCH__)
  return round_to_bf16(__fadd_rn(tensor.offset, __fmul_rn(tensor.scale, u)));
#else
  return round_to_bf16(tensor.offset + tensor.scale * u);  // built with -ffp-contract=off
#endif
}

}  // namespace beryl::kernels
