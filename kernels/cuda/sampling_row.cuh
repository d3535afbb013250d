// What the kernels of sampling share: the order of tokens, their masses, the segments of a row and
// what the passes over them leave behind. Masses are added in fixed point and sums of integers, so
// nothing depends on the order in which threads add.
#pragma once

#include <math_constants.h>

#include "kernels/cuda/primitives.cuh"
#include "kernels/cuda/sampling.h"

namespace beryl::kernels::cuda {

using u64 = unsigned long long;

constexpr int kIdBits = 21;
constexpr u64 kIdMask = (1ull << kIdBits) - 1;
constexpr u64 kBrokenKey = ~0ull;      // of a NaN or +infinity; larger than all others
constexpr float kMassUnits = 0x1p44f;  // of mass 1: 2^18 of them fit 64 bits

// Buckets of kernels/cpu/sampling.cc, which decide the order of a nucleus without top_k.
constexpr int kNumBuckets = 1024;
constexpr float kBucketsPerNat = 32;

constexpr int kSegmentLoads = 8;  // of a lane at once
constexpr int kSegmentUnit = kSegmentLoads * kWarpSize;
constexpr int kMaxSegments = 1024;  // a thread each in the block that draws
constexpr int kSegmentWarps = 8;    // of a block; a warp a segment
constexpr int kSegmentThreads = kSegmentWarps * kWarpSize;
constexpr int kMaxSegmentBlocks = kMaxSegments / kSegmentWarps;
constexpr int kListCapacity = 8192;

__device__ inline u64 warp_max(u64 value) {
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
    value = max(value, static_cast<u64>(__shfl_xor_sync(kAllLanes, value, distance)));
  }
  return value;
}

// Of one row.
struct SamplingWork {
  u64 segment_best[kMaxSegments];      // largest key of each, 0: no token is possible
  u64 block_best[kMaxSegmentBlocks];   // of kSegmentWarps segments each
  u64 segment_mass[kMaxSegments];      // drawn by id
  double segment_total[kMaxSegments];  // sums of exp(logit - top)
  u64 bucket_mass[kNumBuckets];
  u64 before_border;        // mass of the buckets before `border`
  u64 nucleus_mass;         // at which the nucleus ends
  unsigned num_blocks;      // that have added their buckets
  unsigned num_listed;      // counts on beyond kListCapacity
  int border;               // the bucket in which the nucleus ends
  u64 list[kListCapacity];  // keys of the tokens of that bucket, or of the largest logits
};

// Tokens per segment: a multiple of kSegmentUnit.
__host__ __device__ inline int segment_length(int vocab_size) {
  constexpr int kUnitsPerRow = kSegmentUnit * kMaxSegments;
  return (vocab_size + kUnitsPerRow - 1) / kUnitsPerRow * kSegmentUnit;
}
__host__ __device__ inline int num_segments(int vocab_size) {
  const int length = segment_length(vocab_size);
  return (vocab_size + length - 1) / length;
}

__host__ __device__ inline bool has_top_k(const SamplingRow& params, int vocab_size) {
  return params.top_k > 0 && params.top_k < vocab_size;
}
__host__ __device__ inline bool needs_nucleus(const SamplingRow& params, int vocab_size) {
  return params.temperature > 0 && params.top_p < 1 && !has_top_k(params, vocab_size);
}
__host__ __device__ inline bool needs_masses(const SamplingRow& params, int vocab_size) {
  return params.num_top_logprobs >= 0 || (params.temperature > 0 && !has_top_k(params, vocab_size));
}

struct Row {
  const float* logits;
  int vocab_size;
  float top;
  float factor;  // 1 / temperature
};

// Order of tokens: larger keys come first. Never 0 for a possible token.
__device__ inline u64 key_of(float logit, int id) {
  const uint32_t bits = __float_as_uint(logit == 0 ? 0.0f : logit);
  const uint32_t ordered = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
  return (static_cast<u64>(ordered) << kIdBits) | (kIdMask - static_cast<u64>(id));
}
__device__ inline int id_of(u64 key) {
  return static_cast<int>(kIdMask - (key & kIdMask));
}
__device__ inline float logit_of(u64 key) {
  const auto ordered = static_cast<uint32_t>(key >> kIdBits);
  const uint32_t bits = (ordered >> 31) != 0 ? ordered & 0x7fffffffu : ~ordered;
  return __int_as_float(static_cast<int>(bits));
}

__device__ inline float mass_of(const Row& row, float logit) {
  return expf((logit - row.top) * row.factor);
}
__device__ inline int bucket_of(const Row& row, float logit) {
  const float depth = (row.top - logit) * row.factor * kBucketsPerNat;
  return depth < kNumBuckets - 1 ? static_cast<int>(depth) : kNumBuckets - 1;
}

// Which tokens take part, and with what weight.
struct Candidates {
  u64 min_key = 0;
  float min_mass = 0;  // min_p: masses are relative to the largest
  int min_bucket = 0;  // [min_bucket, max_bucket]
  int max_bucket = kNumBuckets;
  bool by_count = false;

  __device__ u64 weight(const Row& row, float logit, u64 key) const {
    if (key < min_key || logit == -CUDART_INF_F) return 0;
    if (by_count) return 1;
    const float mass = mass_of(row, logit);
    if (mass < min_mass) return 0;
    if (min_bucket > 0 || max_bucket < kNumBuckets) {
      const int bucket = bucket_of(row, logit);
      if (bucket < min_bucket || bucket > max_bucket) return 0;
    }
    return __float2ull_rz(mass * kMassUnits);
  }
};

// The lane's share of kSegmentUnit logits from `base` on; -infinity beyond `end`.
__device__ inline void load_unit(const float* logits, int base, int end,
                                 float (&values)[kSegmentLoads]) {
#pragma unroll
  for (int i = 0; i < kSegmentLoads; ++i) {
    const int id = base + i * kWarpSize + lane_idx();
    values[i] = id < end ? logits[id] : -CUDART_INF_F;
  }
}

// Calls visit(id, logit) for the lane's share of a segment; all lanes take part in every call, and
// a lane without a token gets -infinity.
template <typename Visit>
__device__ void visit_segment(const float* logits, int vocab_size, int segment,
                              const Visit& visit) {
  const int length = segment_length(vocab_size);
  const int begin = segment * length;
  const int end = min(begin + length, vocab_size);
  for (int base = begin; base < end; base += kSegmentUnit) {
    float values[kSegmentLoads];
    load_unit(logits, base, end, values);
#pragma unroll
    for (int i = 0; i < kSegmentLoads; ++i) visit(base + i * kWarpSize + lane_idx(), values[i]);
  }
}

// The largest key of the lane's share of a segment; kBrokenKey with a NaN or +infinity.
__device__ inline u64 largest_key(const float* logits, int vocab_size, int segment) {
  const int length = segment_length(vocab_size);
  const int begin = segment * length;
  const int end = min(begin + length, vocab_size);
  u64 best = 0;
  bool is_broken = false;
  for (int base = begin; base < end; base += kSegmentUnit) {
    float values[kSegmentLoads];
    load_unit(logits, base, end, values);
    float top = values[0];
#pragma unroll
    for (int i = 0; i < kSegmentLoads; ++i) {
      is_broken = is_broken || !(values[i] < CUDART_INF_F);
      top = fmaxf(top, values[i]);
    }
    int first = kSegmentLoads;
#pragma unroll
    for (int i = kSegmentLoads - 1; i >= 0; --i) first = values[i] == top ? i : first;
    if (top != -CUDART_INF_F) best = max(best, key_of(top, base + first * kWarpSize + lane_idx()));
  }
  return is_broken ? kBrokenKey : best;
}

// Appends the keys of the lanes that have one; called by all lanes of a warp.
__device__ inline void append_keys(bool has_key, u64 key, unsigned* count, u64* list) {
  const unsigned mask = __ballot_sync(kAllLanes, has_key);
  if (mask == 0) return;
  const int leader = __ffs(static_cast<int>(mask)) - 1;
  unsigned first = 0;
  if (lane_idx() == leader) first = atomicAdd(count, static_cast<unsigned>(__popc(mask)));
  first = __shfl_sync(kAllLanes, first, leader);
  const unsigned at = first + static_cast<unsigned>(__popc(mask & ((1u << lane_idx()) - 1)));
  if (has_key && at < kListCapacity) list[at] = key;
}

}  // namespace beryl::kernels::cuda
