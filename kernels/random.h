// Counter-based random numbers (Philox 4x32, 10 rounds): a pure function of key and counter, so a
// draw is the same whatever else is in the batch. Usable on host and device.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define BERYL_HOST_DEVICE __host__ __device__
#else
#define BERYL_HOST_DEVICE
#endif

namespace beryl::kernels {

struct Philox4x32 {
  uint32_t value[4];
};

BERYL_HOST_DEVICE inline Philox4x32 philox4x32(uint64_t key, Philox4x32 counter) {
  uint32_t key0 = static_cast<uint32_t>(key);
  uint32_t key1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter.value[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter.value[2];
    counter = {{static_cast<uint32_t>(product1 >> 32) ^ counter.value[1] ^ key0,
                static_cast<uint32_t>(product1),
                static_cast<uint32_t>(product0 >> 32) ^ counter.value[3] ^ key1,
                static_cast<uint32_t>(product0)}};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return counter;
}

// Uniform in [0, 1) with 53 bits: the draw of one token.
BERYL_HOST_DEVICE inline double uniform_draw(uint64_t seed, uint32_t choice, uint32_t position) {
  const Philox4x32 bits = philox4x32(seed, {{position, choice, 0, 0}});
  const uint64_t high = (uint64_t{bits.value[0]} << 32) | bits.value[1];
  return static_cast<double>(high >> 11) * (1.0 / 9007199254740992.0);
}

}  // namespace beryl::kernels
