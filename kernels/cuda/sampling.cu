// One block a row. Nothing is sorted: a threshold (the k-th largest logit, the end of a nucleus,
// the drawn token) is found digit by digit with weighted histograms, from the most significant
// digit of a key that orders tokens by falling logit and rising id. Weights are counts or masses in
// fixed point, so that sums do not depend on the order in which threads add.
#include "kernels/cuda/sampling.h"

#include <math_constants.h>

#include "kernels/cuda/primitives.cuh"
#include "kernels/random.h"

namespace beryl::kernels::cuda {
namespace {

using u64 = unsigned long long;

constexpr int kThreads = 1024;
constexpr int kNumWarps = kThreads / kWarpSize;
constexpr int kIdBits = 21;
constexpr u64 kIdMask = (1ull << kIdBits) - 1;
constexpr int kMaxDigitBits = 11;
constexpr float kMassUnits = 0x1p44f;  // of mass 1: 2^18 of them fit 64 bits

// Buckets of kernels/cpu/sampling.cc, which decide the order of a nucleus without top_k.
constexpr int kNumBuckets = 1024;
constexpr float kBucketsPerNat = 32;

struct Shared {
  u64 histogram[1 << kMaxDigitBits];
  u64 warp_sums[kNumWarps];
  double warp_doubles[kNumWarps];
  u64 digit;
  u64 before;
  u64 top_keys[kMaxTopLogprobs];
  unsigned num_top;
  unsigned has_nan;
};

struct Row {
  const float* logits;
  int vocab_size;
  float top;
  float factor;  // 1 / temperature
};

// Order of tokens: larger keys come first.
__device__ u64 key_of(float logit, int id) {
  const uint32_t bits = __float_as_uint(logit == 0 ? 0.0f : logit);
  const uint32_t ordered = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
  return (static_cast<u64>(ordered) << kIdBits) | (kIdMask - static_cast<u64>(id));
}
__device__ int id_of(u64 key) {
  return static_cast<int>(kIdMask - (key & kIdMask));
}

__device__ float mass_of(const Row& row, float logit) {
  return expf((logit - row.top) * row.factor);
}
__device__ int bucket_of(const Row& row, float logit) {
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
  bool is_empty = false;

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

// Sum over the block, the same on all threads.
__device__ u64 block_total(u64 value, Shared& shared) {
  for (int d = kWarpSize / 2; d > 0; d /= 2) value += __shfl_xor_sync(kAllLanes, value, d);
  __syncthreads();
  if (lane_idx() == 0) shared.warp_sums[warp_idx()] = value;
  __syncthreads();
  u64 total = 0;
  for (int w = 0; w < kNumWarps; ++w) total += shared.warp_sums[w];
  return total;
}

__device__ u64 block_max(u64 value, Shared& shared) {
  for (int d = kWarpSize / 2; d > 0; d /= 2) {
    value = max(value, static_cast<u64>(__shfl_xor_sync(kAllLanes, value, d)));
  }
  __syncthreads();
  if (lane_idx() == 0) shared.warp_sums[warp_idx()] = value;
  __syncthreads();
  u64 largest = 0;
  for (int w = 0; w < kNumWarps; ++w) largest = max(largest, shared.warp_sums[w]);
  return largest;
}

__device__ u64 total_weight(const Row& row, const Candidates& candidates, Shared& shared) {
  u64 sum = 0;
  for (int id = static_cast<int>(threadIdx.x); id < row.vocab_size; id += kThreads) {
    const float logit = row.logits[id];
    sum += candidates.weight(row, logit, key_of(logit, id));
  }
  return block_total(sum, shared);
}

// The digit at which the sum of bins, from the largest digit down, reaches `goal`, and the sum
// before it, into shared.digit and shared.before.
__device__ void find_digit(int num_bins, u64 goal, Shared& shared) {
  const int first = static_cast<int>(threadIdx.x) * 2;  // counted from the largest digit
  const u64 a = first < num_bins ? shared.histogram[num_bins - 1 - first] : 0;
  const u64 b = first + 1 < num_bins ? shared.histogram[num_bins - 2 - first] : 0;
  u64 inclusive = a + b;
  for (int d = 1; d < kWarpSize; d *= 2) {
    const u64 other = __shfl_up_sync(kAllLanes, inclusive, d);
    if (lane_idx() >= d) inclusive += other;
  }
  __syncthreads();
  if (lane_idx() == kWarpSize - 1) shared.warp_sums[warp_idx()] = inclusive;
  __syncthreads();
  for (int w = 0; w < warp_idx(); ++w) inclusive += shared.warp_sums[w];
  const u64 before = inclusive - a - b;
  if (before < goal && goal <= before + a) {
    shared.digit = static_cast<u64>(num_bins - 1 - first);
    shared.before = before;
  } else if (before + a < goal && goal <= inclusive) {
    shared.digit = static_cast<u64>(num_bins - 2 - first);
    shared.before = before + a;
  }
  __syncthreads();
}

// The key at which the weights of candidates, largest key first, reach `goal`; 1 <= goal <= their
// total. With by_id only the ids count: smallest id first.
__device__ u64 select_key(const Row& row, const Candidates& candidates, bool by_id, u64 goal,
                          Shared& shared) {
  constexpr int kShifts[] = {42, 31, 21, 10, 0};
  constexpr int kBits[] = {11, 11, 10, 11, 10};
  u64 prefix = 0;
  for (int pass = by_id ? 3 : 0; pass < 5; ++pass) {
    const int shift = kShifts[pass];
    const int bits = kBits[pass];
    const int num_bins = 1 << bits;
    for (int i = static_cast<int>(threadIdx.x); i < num_bins; i += kThreads) {
      shared.histogram[i] = 0;
    }
    __syncthreads();
    for (int id = static_cast<int>(threadIdx.x); id < row.vocab_size; id += kThreads) {
      const float logit = row.logits[id];
      const u64 key = key_of(logit, id);
      const u64 order = by_id ? key & kIdMask : key;
      if (order >> (shift + bits) != prefix) continue;
      const u64 weight = candidates.weight(row, logit, key);
      if (weight == 0) continue;
      atomicAdd(&shared.histogram[(order >> shift) & static_cast<u64>(num_bins - 1)], weight);
    }
    __syncthreads();
    find_digit(num_bins, goal, shared);
    prefix = (prefix << bits) | shared.digit;
    goal -= shared.before;
    __syncthreads();
  }
  return prefix;
}

__device__ void apply_penalties(const SamplingRow& params, float* logits) {
  for (int i = static_cast<int>(threadIdx.x); i < params.num_counts; i += kThreads) {
    const TokenCount seen = params.counts[i];  // each token once
    float logit = logits[seen.token_id];
    logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    if (seen.count > 0) {
      logit -= __fadd_rn(__fmul_rn(params.frequency_penalty, static_cast<float>(seen.count)),
                         params.presence_penalty);
    }
    logits[seen.token_id] = logit;
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < params.num_biases; i += kThreads) {
    atomicAdd(&logits[params.biases[i].token_id], params.biases[i].bias);
  }
  __syncthreads();
}

struct Scan {
  u64 best;  // key of the first of the largest logits
  u64 num_possible;
  bool has_nan;
};

__device__ Scan scan_logits(const Row& row, Shared& shared) {
  if (threadIdx.x == 0) shared.has_nan = 0;
  __syncthreads();
  u64 best = 0;
  u64 count = 0;
  bool has_nan = false;
  for (int id = static_cast<int>(threadIdx.x); id < row.vocab_size; id += kThreads) {
    const float logit = row.logits[id];
    has_nan = has_nan || isnan(logit) || logit == CUDART_INF_F;
    if (logit == -CUDART_INF_F || isnan(logit)) continue;
    ++count;
    best = max(best, key_of(logit, id));
  }
  if (has_nan) atomicOr(&shared.has_nan, 1u);
  Scan scan;
  scan.best = block_max(best, shared);
  scan.num_possible = block_total(count, shared);
  scan.has_nan = shared.has_nan != 0;
  return scan;
}

// The token that the random number falls on, or -1 when min_p left none.
__device__ int draw(const SamplingRow& params, const Row& row, u64 num_possible, Shared& shared) {
  const bool has_top_k = params.top_k > 0 && params.top_k < row.vocab_size;
  Candidates kept;
  if (has_top_k) {
    Candidates all;
    all.by_count = true;
    const u64 count = min(static_cast<u64>(params.top_k), num_possible);
    kept.min_key = select_key(row, all, false, count, shared);
  }
  if (params.top_p < 1) {
    const u64 total = total_weight(row, kept, shared);
    const auto share =
        static_cast<u64>(ceil(static_cast<double>(params.top_p) * static_cast<double>(total)));
    kept.min_key = select_key(row, kept, false, max(1ull, min(share, total)), shared);
  }
  // The order of the draw: with top_k by falling logit. Else by id, but the bucket in which the
  // nucleus ends comes last, by falling logit.
  kept.min_mass = params.min_p;
  Candidates by_id = kept;
  Candidates by_logit = kept;
  if (has_top_k) {
    by_id.is_empty = true;
  } else if (params.top_p < 1) {
    const int border = bucket_of(row, row.logits[id_of(kept.min_key)]);
    by_id.is_empty = border == 0;
    by_id.max_bucket = border - 1;
    by_logit.min_bucket = border;
  } else {
    by_logit.is_empty = true;
  }
  const u64 first = by_id.is_empty ? 0 : total_weight(row, by_id, shared);
  const u64 second = by_logit.is_empty ? 0 : total_weight(row, by_logit, shared);
  const u64 total = first + second;
  if (total == 0) return -1;
  const double u = uniform_draw(params.seed, params.choice, params.position);
  const u64 target = min(static_cast<u64>(u * static_cast<double>(total)), total - 1);
  if (target < first) return id_of(select_key(row, by_id, true, target + 1, shared));
  return id_of(select_key(row, by_logit, false, target - first + 1, shared));
}

// log(sum(exp(logits))), the same on all threads.
__device__ double log_total(const Row& row, Shared& shared) {
  double sum = 0;
  for (int id = static_cast<int>(threadIdx.x); id < row.vocab_size; id += kThreads) {
    sum += static_cast<double>(expf(row.logits[id] - row.top));
  }
  for (int d = kWarpSize / 2; d > 0; d /= 2) sum += __shfl_xor_sync(kAllLanes, sum, d);
  __syncthreads();
  if (lane_idx() == 0) shared.warp_doubles[warp_idx()] = sum;
  __syncthreads();
  double total = 0;
  for (int w = 0; w < kNumWarps; ++w) total += shared.warp_doubles[w];
  return log(total) + static_cast<double>(row.top);
}

__device__ void fill_logprobs(const SamplingRow& params, const Row& row, u64 num_possible,
                              Shared& shared, SampledToken& sampled) {
  const double log_sum = log_total(row, shared);
  if (threadIdx.x == 0) {
    sampled.logprob =
        static_cast<float>(static_cast<double>(row.logits[sampled.token_id]) - log_sum);
    shared.num_top = 0;
  }
  const int limit = min(params.num_top_logprobs, kMaxTopLogprobs);
  const u64 wanted = min(static_cast<u64>(limit), num_possible);
  if (wanted == 0) return;
  Candidates all;
  all.by_count = true;
  const u64 last = select_key(row, all, false, wanted, shared);
  for (int id = static_cast<int>(threadIdx.x); id < row.vocab_size; id += kThreads) {
    const u64 key = key_of(row.logits[id], id);
    if (key >= last) shared.top_keys[atomicAdd(&shared.num_top, 1u)] = key;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  sampled.num_top = static_cast<int>(wanted);
  for (int i = 0; i < static_cast<int>(wanted); ++i) {
    int largest = i;
    for (int j = i + 1; j < static_cast<int>(wanted); ++j) {
      if (shared.top_keys[j] > shared.top_keys[largest]) largest = j;
    }
    const u64 key = shared.top_keys[largest];
    shared.top_keys[largest] = shared.top_keys[i];
    const int id = id_of(key);
    sampled.top[i] = {id, static_cast<float>(static_cast<double>(row.logits[id]) - log_sum)};
  }
}

__global__ void __launch_bounds__(kThreads) sample_kernel(SampleArgs args) {
  __shared__ Shared shared;
  __shared__ SampledToken sampled;
  const SamplingRow params = args.rows[blockIdx.x];
  float* logits = args.logits + int64_t{blockIdx.x} * args.vocab_size;
  if (threadIdx.x == 0) {
    sampled.token_id = -1;
    sampled.has_nan = false;
    sampled.all_forbidden = false;
    sampled.logprob = 0;
    sampled.num_top = 0;
  }
  apply_penalties(params, logits);
  Row row = {logits, args.vocab_size, 0, 0};
  const Scan scan = scan_logits(row, shared);
  const bool is_possible = !scan.has_nan && scan.num_possible > 0;
  if (is_possible) {
    row.top = logits[id_of(scan.best)];
    int token_id = -1;
    if (params.temperature > 0) {
      row.factor = 1 / params.temperature;
      token_id = draw(params, row, scan.num_possible, shared);
    }
    if (token_id < 0) token_id = id_of(scan.best);
    if (threadIdx.x == 0) sampled.token_id = token_id;
    __syncthreads();
    if (params.num_top_logprobs >= 0) {
      fill_logprobs(params, row, scan.num_possible, shared, sampled);
    }
  } else if (threadIdx.x == 0) {
    sampled.has_nan = scan.has_nan;
    sampled.all_forbidden = !scan.has_nan;
  }
  if (threadIdx.x == 0) args.sampled[blockIdx.x] = sampled;
}

}  // namespace

cudaError_t launch_sample(const SampleArgs& args, cudaStream_t stream) {
  if (args.num_rows == 0) return cudaSuccess;
  return launch_kernel(sample_kernel, static_cast<unsigned>(args.num_rows), kThreads, 0, stream,
                       args);
}

}  // namespace beryl::kernels::cuda
