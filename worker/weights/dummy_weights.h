// Dummy weights, version 1: every weight as a pure function of (seed, tensor name, element index),
// so that a model of any size can run without a file and different machines hold the same bits.
//
//   key = mix(seed ^ fnv1a64(name)); the rest is kernels/hashed_weights.h, index in row-major order
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace beryl::weights {

constexpr double kDefaultPostNorm = 0.03;

struct DummyRule {
  float offset = 0;
  float scale = 0;
};

// By the end of the published name; fan_in is the last dimension. `post_norm` is how much each
// block adds to the residual stream.
DummyRule dummy_rule(std::string_view name, int64_t fan_in, double post_norm = kDefaultPostNorm);

uint64_t dummy_key(uint64_t seed, std::string_view name);

// out[i] = bf16 weight of element first_index + i.
void fill_dummy(uint64_t key, const DummyRule& rule, uint64_t first_index, std::span<uint16_t> out);

}  // namespace beryl::weights
