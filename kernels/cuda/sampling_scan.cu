// The passes of sampling over whole rows: block (segments, row), a warp a segment.
#include "kernels/cuda/sampling_row.cuh"

namespace beryl::kernels::cuda {
namespace {

__global__ void __launch_bounds__(kSegmentThreads) penalties_kernel(SampleArgs args) {
  begin_overlapping_kernel();
  const SamplingRow& params = args.rows[blockIdx.y];
  float* logits = args.logits + int64_t{blockIdx.y} * args.vocab_size;
  const int stride = static_cast<int>(gridDim.x) * kSegmentThreads;
  for (int i = static_cast<int>(blockIdx.x * kSegmentThreads + threadIdx.x); i < params.num_counts;
       i += stride) {
    const TokenCount seen = params.counts[i];  // each token once
    float logit = logits[seen.token_id];
    logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    if (seen.count > 0) {
      logit -= __fadd_rn(__fmul_rn(params.frequency_penalty, static_cast<float>(seen.count)),
                         params.presence_penalty);
    }
    logits[seen.token_id] = logit;
  }
}

__global__ void __launch_bounds__(kSegmentThreads) biases_kernel(SampleArgs args) {
  begin_overlapping_kernel();
  const SamplingRow& params = args.rows[blockIdx.y];
  float* logits = args.logits + int64_t{blockIdx.y} * args.vocab_size;
  const int stride = static_cast<int>(gridDim.x) * kSegmentThreads;
  for (int i = static_cast<int>(blockIdx.x * kSegmentThreads + threadIdx.x); i < params.num_biases;
       i += stride) {
    atomicAdd(&logits[params.biases[i].token_id], params.biases[i].bias);
  }
}

__device__ int segment_of_warp() {
  return static_cast<int>(blockIdx.x) * kSegmentWarps + warp_idx();
}

__global__ void __launch_bounds__(kSegmentThreads) maxima_kernel(SampleArgs args) {
  begin_overlapping_kernel();
  __shared__ u64 warp_best[kSegmentWarps];
  SamplingWork& work = args.work[blockIdx.y];
  const float* logits = args.logits + int64_t{blockIdx.y} * args.vocab_size;
  u64 best = largest_key(logits, args.vocab_size, segment_of_warp());
  best = warp_max(best);
  if (lane_idx() == 0) {
    work.segment_best[segment_of_warp()] = best;
    warp_best[warp_idx()] = best;
  }
  // For the passes that follow.
  for (int i = static_cast<int>(blockIdx.x * kSegmentThreads + threadIdx.x); i < kNumBuckets;
       i += static_cast<int>(gridDim.x) * kSegmentThreads) {
    work.bucket_mass[i] = 0;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < kSegmentWarps; ++w) best = max(best, warp_best[w]);
  work.block_best[blockIdx.x] = best;
  if (blockIdx.x == 0) {
    work.num_blocks = 0;
    work.num_listed = 0;
  }
}

// The largest key of the row, from what maxima_kernel left; the same on all threads.
__device__ u64 row_best(const SamplingWork& work) {
  __shared__ u64 warp_best[kSegmentWarps];
  const int i = static_cast<int>(threadIdx.x);
  const u64 best = warp_max(i < static_cast<int>(gridDim.x) ? work.block_best[i] : 0);
  if (lane_idx() == 0) warp_best[warp_idx()] = best;
  __syncthreads();
  u64 largest = 0;
  for (int w = 0; w < kSegmentWarps; ++w) largest = max(largest, warp_best[w]);
  return largest;
}

// The bucket in which the mass of the row, from the largest logit down, reaches top_p of all.
__device__ void find_border(const SamplingRow& params, SamplingWork& work) {
  constexpr int kPerThread = kNumBuckets / kSegmentThreads;
  __shared__ u64 warp_sums[kSegmentWarps];
  u64 mine[kPerThread];
  u64 sum = 0;
  const int first = static_cast<int>(threadIdx.x) * kPerThread;
  for (int i = 0; i < kPerThread; ++i) {
    // Past the first-level cache: other blocks have added.
    mine[i] = atomicAdd(&work.bucket_mass[first + i], 0ull);
    sum += mine[i];
  }
  u64 inclusive = sum;
  for (int d = 1; d < kWarpSize; d *= 2) {
    const u64 other = __shfl_up_sync(kAllLanes, inclusive, d);
    if (lane_idx() >= d) inclusive += other;
  }
  if (lane_idx() == kWarpSize - 1) warp_sums[warp_idx()] = inclusive;
  __syncthreads();
  u64 total = 0;
  for (int w = 0; w < kSegmentWarps; ++w) {
    if (w < warp_idx()) inclusive += warp_sums[w];
    total += warp_sums[w];
  }
  const auto share =
      static_cast<u64>(ceil(static_cast<double>(params.top_p) * static_cast<double>(total)));
  const u64 goal = max(1ull, min(share, total));
  u64 before = inclusive - sum;
  for (int i = 0; i < kPerThread; ++i) {
    if (before < goal && goal <= before + mine[i]) {
      work.border = first + i;
      work.before_border = before;
      work.nucleus_mass = goal;
    }
    before += mine[i];
  }
}

// Masses of a block's buckets, digit by digit: additions of 32 bits are fast in shared memory.
struct BucketParts {
  static constexpr int kDigitBits = 15;  // a mass has three digits; 2^17 of them fit a sum
  static constexpr unsigned kDigitMask = (1u << kDigitBits) - 1;
  static constexpr int kNumParts = 3;
  static_assert(int64_t{kMaxSampledVocab} / kMaxSegments * kSegmentWarps <= 1 << 17);

  unsigned parts[kNumParts][kNumBuckets];

  __device__ void add(int bucket, u64 weight) {
#pragma unroll
    for (int p = 0; p < kNumParts; ++p) {
      const unsigned digit = static_cast<unsigned>(weight >> (p * kDigitBits)) & kDigitMask;
      if (digit != 0) atomicAdd(&parts[p][bucket], digit);
    }
  }
  __device__ u64 sum(int bucket) const {
    u64 total = 0;
    for (int p = 0; p < kNumParts; ++p)
      total += static_cast<u64>(parts[p][bucket]) << (p * kDigitBits);
    return total;
  }
};

// Masses of segments, for draws by id; sums for log probabilities; masses of buckets, and then the
// border of the nucleus by the block that adds last.
__global__ void __launch_bounds__(kSegmentThreads) masses_kernel(SampleArgs args) {
  begin_overlapping_kernel();
  __shared__ BucketParts buckets;
  __shared__ bool is_last;
  const SamplingRow& params = args.rows[blockIdx.y];
  SamplingWork& work = args.work[blockIdx.y];
  if (!needs_masses(params, args.vocab_size)) return;
  const u64 best = row_best(work);
  if (best == 0 || best == kBrokenKey) return;
  const bool has_nucleus = needs_nucleus(params, args.vocab_size);
  const bool has_logprobs = params.num_top_logprobs >= 0;
  const bool is_drawn = params.temperature > 0;
  const Row row = {args.logits + int64_t{blockIdx.y} * args.vocab_size, args.vocab_size,
                   logit_of(best), is_drawn ? 1 / params.temperature : 0.0f};
  if (has_nucleus) {
    for (int i = static_cast<int>(threadIdx.x); i < kNumBuckets; i += kSegmentThreads) {
      for (auto& part : buckets.parts) part[i] = 0;
    }
    __syncthreads();
  }
  Candidates all;
  if (!has_nucleus) all.min_mass = params.min_p;
  u64 mass = 0;
  double total = 0;
  visit_segment(row.logits, row.vocab_size, segment_of_warp(), [&](int, float logit) {
    if (has_logprobs) total += static_cast<double>(expf(logit - row.top));
    if (!is_drawn) return;
    const u64 weight = all.weight(row, logit, 0);
    if (!has_nucleus) {
      mass += weight;
    } else if (weight != 0) {
      buckets.add(bucket_of(row, logit), weight);
    }
  });
  total = warp_sum(total);
  mass = warp_sum(mass);
  if (lane_idx() == 0) {
    work.segment_total[segment_of_warp()] = total;
    work.segment_mass[segment_of_warp()] = mass;
  }
  if (!has_nucleus) return;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kNumBuckets; i += kSegmentThreads) {
    const u64 sum = buckets.sum(i);
    if (sum != 0) atomicAdd(&work.bucket_mass[i], sum);
  }
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) is_last = atomicAdd(&work.num_blocks, 1u) + 1 == gridDim.x;
  __syncthreads();
  if (is_last) find_border(params, work);
}

// Of a nucleus: masses of what comes before the border, and a list of what lies in its bucket.
__global__ void __launch_bounds__(kSegmentThreads) border_kernel(SampleArgs args) {
  begin_overlapping_kernel();
  const SamplingRow& params = args.rows[blockIdx.y];
  SamplingWork& work = args.work[blockIdx.y];
  if (!needs_nucleus(params, args.vocab_size)) return;
  const u64 best = row_best(work);
  if (best == 0 || best == kBrokenKey) return;
  const Row row = {args.logits + int64_t{blockIdx.y} * args.vocab_size, args.vocab_size,
                   logit_of(best), 1 / params.temperature};
  const int border = work.border;
  Candidates before;
  before.min_mass = params.min_p;
  before.max_bucket = border - 1;
  Candidates within;
  within.min_bucket = within.max_bucket = border;
  u64 mass = 0;
  visit_segment(row.logits, row.vocab_size, segment_of_warp(), [&](int id, float logit) {
    const u64 key = key_of(logit, id);
    mass += before.weight(row, logit, key);
    append_keys(within.weight(row, logit, key) != 0, key, &work.num_listed, work.list);
  });
  mass = warp_sum(mass);
  if (lane_idx() == 0) work.segment_mass[segment_of_warp()] = mass;
}

dim3 segment_grid(const SampleArgs& args) {
  const int blocks = (num_segments(args.vocab_size) + kSegmentWarps - 1) / kSegmentWarps;
  return {static_cast<unsigned>(blocks), static_cast<unsigned>(args.num_rows)};
}

dim3 entry_grid(const SampleArgs& args, int max_entries) {
  constexpr int kMaxBlocks = 64;
  const int blocks = min((max_entries + kSegmentThreads - 1) / kSegmentThreads, kMaxBlocks);
  return {static_cast<unsigned>(blocks), static_cast<unsigned>(args.num_rows)};
}

}  // namespace

cudaError_t launch_penalties(const SampleArgs& args, const SamplingNeeds& needs,
                             LaunchStream stream) {
  cudaError_t error = cudaSuccess;
  if (needs.max_counts > 0) {
    error = launch_overlapping_kernel(penalties_kernel, entry_grid(args, needs.max_counts),
                                      kSegmentThreads, 0, stream, args);
  }
  if (error == cudaSuccess && needs.max_biases > 0) {
    error = launch_overlapping_kernel(biases_kernel, entry_grid(args, needs.max_biases),
                                      kSegmentThreads, 0, stream, args);
  }
  return error;
}

cudaError_t launch_segment_maxima(const SampleArgs& args, LaunchStream stream) {
  return launch_overlapping_kernel(maxima_kernel, segment_grid(args), kSegmentThreads, 0, stream,
                                   args);
}

cudaError_t launch_segment_masses(const SampleArgs& args, LaunchStream stream) {
  return launch_overlapping_kernel(masses_kernel, segment_grid(args), kSegmentThreads, 0, stream,
                                   args);
}

cudaError_t launch_nucleus_border(const SampleArgs& args, LaunchStream stream) {
  return launch_overlapping_kernel(border_kernel, segment_grid(args), kSegmentThreads, 0, stream,
                                   args);
}

}  // namespace beryl::kernels::cuda
