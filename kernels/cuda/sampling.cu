// The draw: one block a row, after the passes of sampling_scan.cu.
#include "kernels/cuda/sampling.h"

#include <algorithm>

#include "kernels/cuda/sampling_search.cuh"
#include "kernels/random.h"

namespace beryl::kernels::cuda {
namespace {

struct Shared {
  SearchShared search;
  double warp_doubles[kSearchWarps];
  u64 top_keys[kMaxTopLogprobs];
  unsigned num_top;
};

// Where the random number falls among weights of `total`: 1 .. total.
__device__ u64 draw_goal(const SamplingRow& params, u64 total) {
  const double u = uniform_draw(params.seed, params.choice, params.position);
  return min(static_cast<u64>(u * static_cast<double>(total)), total - 1) + 1;
}

__device__ u64 nucleus_goal(float top_p, u64 total) {
  const auto share =
      static_cast<u64>(ceil(static_cast<double>(top_p) * static_cast<double>(total)));
  return max(1ull, min(share, total));
}

// The order of the draw: by falling logit. -1 when min_p left none.
__device__ int draw_sorted(const SamplingRow& params, SortedKeys keys, const SearchShared& shared) {
  keys.count = min(keys.count, params.top_k);
  if (params.top_p < 1) keys.cut(nucleus_goal(params.top_p, keys.total(0)));
  const u64 total = keys.total(params.min_p);
  if (total == 0) return -1;
  return id_of(shared.sorted[keys.find(params.min_p, draw_goal(params, total))]);
}

__device__ int draw_top_k(const SamplingRow& params, const Row& row, SamplingWork& work,
                          SearchShared& shared) {
  const Source source = gather_largest(row, work, params.top_k, shared);
  if (source.is_sorted) {
    if (warp_idx() == 0) {
      const int id = draw_sorted(params, SortedKeys(row, source, shared), shared);
      if (lane_idx() == 0) shared.token_id = id;
    }
    __syncthreads();
    return shared.token_id;
  }
  Candidates all;
  all.by_count = true;
  const u64 count = min(static_cast<u64>(params.top_k), total_weight(row, source, all, shared));
  Candidates kept;
  kept.min_key = select_key(row, source, all, count, shared);
  if (params.top_p < 1) {
    const u64 goal = nucleus_goal(params.top_p, total_weight(row, source, kept, shared));
    kept.min_key = select_key(row, source, kept, goal, shared);
  }
  kept.min_mass = params.min_p;
  const u64 total = total_weight(row, source, kept, shared);
  if (total == 0) return -1;
  return id_of(select_key(row, source, kept, draw_goal(params, total), shared));
}

// Sum of the masses that the passes left in segments.
__device__ u64 segments_mass(const Row& row, const SamplingWork& work, SearchShared& shared) {
  const int t = static_cast<int>(threadIdx.x);
  return block_total(t < num_segments(row.vocab_size) ? work.segment_mass[t] : 0, shared);
}

// The token at which masses, by rising id, reach `goal`.
__device__ int select_by_id(const Row& row, const SamplingWork& work, const Candidates& candidates,
                            u64 goal, SearchShared& shared) {
  const int t = static_cast<int>(threadIdx.x);
  const u64 mass = t < num_segments(row.vocab_size) ? work.segment_mass[t] : 0;
  u64 total;
  u64 inclusive = block_inclusive_sum(mass, shared, &total);
  if (inclusive - mass < goal && goal <= inclusive) {
    shared.found = static_cast<u64>(t);
    shared.before = inclusive - mass;
  }
  __syncthreads();
  const int length = segment_length(row.vocab_size);
  const int begin = static_cast<int>(shared.found) * length;
  const int end = min(begin + length, row.vocab_size);
  goal -= shared.before;
  __syncthreads();
  for (int base = begin; base < end; base += kSearchThreads) {
    const int id = base + t;
    const u64 weight = id < end ? candidates.weight(row, row.logits[id], kBrokenKey) : 0;
    inclusive = block_inclusive_sum(weight, shared, &total);
    if (inclusive - weight < goal && goal <= inclusive) shared.found = static_cast<u64>(id);
    if (goal <= total) break;
    goal -= total;
  }
  __syncthreads();
  return static_cast<int>(shared.found);
}

__device__ int draw_by_id(const SamplingRow& params, const Row& row, const SamplingWork& work,
                          SearchShared& shared) {
  const u64 total = segments_mass(row, work, shared);
  if (total == 0) return -1;
  Candidates kept;
  kept.min_mass = params.min_p;
  return select_by_id(row, work, kept, draw_goal(params, total), shared);
}

// The order of the draw: by id, but the bucket in which the nucleus ends comes last, by falling
// logit.
__device__ int draw_nucleus(const SamplingRow& params, const Row& row, const SamplingWork& work,
                            SearchShared& shared) {
  const Source source = listed_source(row, work, work.num_listed, shared);
  const u64 within = work.nucleus_mass - work.before_border;
  const u64 first_mass = segments_mass(row, work, shared);
  if (source.is_sorted && warp_idx() == 0) {
    SortedKeys keys(row, source, shared);
    keys.cut(within);
    const u64 total = first_mass + keys.total(params.min_p);
    const u64 goal = total == 0 ? 0 : draw_goal(params, total);
    int id = -1;
    if (goal > first_mass) id = id_of(shared.sorted[keys.find(params.min_p, goal - first_mass)]);
    if (lane_idx() == 0) {
      shared.token_id = id;
      shared.goal = goal;
    }
  }
  if (!source.is_sorted) {
    Candidates last;
    last.min_bucket = last.max_bucket = work.border;
    last.min_key = select_key(row, source, last, within, shared);
    last.min_mass = params.min_p;
    const u64 total = first_mass + total_weight(row, source, last, shared);
    const u64 goal = total == 0 ? 0 : draw_goal(params, total);
    int id = -1;
    if (goal > first_mass) {
      id = id_of(select_key(row, source, last, goal - first_mass, shared));
    }
    shared.token_id = id;  // the same on all threads
    shared.goal = goal;
  }
  __syncthreads();
  const u64 goal = shared.goal;
  if (goal == 0 || goal > first_mass) return shared.token_id;
  Candidates first;
  first.min_mass = params.min_p;
  first.max_bucket = work.border - 1;
  return select_by_id(row, work, first, goal, shared);
}

__device__ int draw(const SamplingRow& params, const Row& row, SamplingWork& work,
                    SearchShared& shared) {
  if (has_top_k(params, row.vocab_size)) return draw_top_k(params, row, work, shared);
  if (params.top_p < 1) return draw_nucleus(params, row, work, shared);
  return draw_by_id(params, row, work, shared);
}

__device__ double warp_sum(double value) {
  for (int d = kWarpSize / 2; d > 0; d /= 2) value += __shfl_xor_sync(kAllLanes, value, d);
  return value;
}

// log(sum(exp(logits))), the same on all threads.
__device__ double log_total(const Row& row, const SamplingWork& work, Shared& shared) {
  const int t = static_cast<int>(threadIdx.x);
  const double sum = warp_sum(t < num_segments(row.vocab_size) ? work.segment_total[t] : 0.0);
  if (lane_idx() == 0) shared.warp_doubles[warp_idx()] = sum;
  __syncthreads();
  return log(warp_sum(shared.warp_doubles[lane_idx()])) + static_cast<double>(row.top);
}

__device__ void fill_logprobs(const SamplingRow& params, const Row& row, SamplingWork& work,
                              Shared& shared, SampledToken& sampled) {
  const double log_sum = log_total(row, work, shared);
  if (threadIdx.x == 0) {
    sampled.logprob =
        static_cast<float>(static_cast<double>(row.logits[sampled.token_id]) - log_sum);
    shared.num_top = 0;
  }
  const int limit = min(params.num_top_logprobs, kMaxTopLogprobs);
  if (limit <= 0) return;
  const Source source = gather_largest(row, work, limit, shared.search);
  Candidates all;
  all.by_count = true;
  const u64 possible = source.is_sorted ? static_cast<u64>(source.count)
                                        : total_weight(row, source, all, shared.search);
  const u64 wanted = min(static_cast<u64>(limit), possible);
  const u64 last = source.is_sorted ? shared.search.sorted[wanted - 1]
                                    : select_key(row, source, all, wanted, shared.search);
  for (int i = static_cast<int>(threadIdx.x); i < source.count; i += kSearchThreads) {
    const u64 key = source.key(row, i);
    if (key >= last) shared.top_keys[atomicAdd(&shared.num_top, 1u)] = key;
  }
  __syncthreads();
  const auto count = static_cast<int>(wanted);
  if (threadIdx.x == 0) sampled.num_top = count;
  if (static_cast<int>(threadIdx.x) >= count) return;
  const u64 key = shared.top_keys[threadIdx.x];
  int rank = 0;
  for (int i = 0; i < count; ++i) rank += shared.top_keys[i] > key;
  sampled.top[rank] = {id_of(key),
                       static_cast<float>(static_cast<double>(logit_of(key)) - log_sum)};
}

__global__ void __launch_bounds__(kSearchThreads) draw_kernel(SampleArgs args) {
  begin_overlapping_kernel();
  __shared__ Shared shared;
  __shared__ SampledToken sampled;
  const SamplingRow params = args.rows[blockIdx.x];
  SamplingWork& work = args.work[blockIdx.x];
  Row row = {args.logits + int64_t{blockIdx.x} * args.vocab_size, args.vocab_size, 0, 0};
  const int t = static_cast<int>(threadIdx.x);
  u64 best = t < num_segments(row.vocab_size) ? work.segment_best[t] : 0;
  best = block_max(best, shared.search);
  const bool is_broken = best == kBrokenKey;
  const bool is_possible = best != 0 && !is_broken;
  if (t == 0) {
    sampled.token_id = -1;
    sampled.has_nan = is_broken;
    sampled.all_forbidden = best == 0;
    sampled.logprob = 0;
    sampled.num_top = 0;
  }
  if (is_possible) {
    row.top = logit_of(best);
    int token_id = -1;
    if (params.temperature > 0) {
      row.factor = 1 / params.temperature;
      token_id = draw(params, row, work, shared.search);
    }
    if (token_id < 0) token_id = id_of(best);
    if (t == 0) sampled.token_id = token_id;
    __syncthreads();
    if (params.num_top_logprobs >= 0) fill_logprobs(params, row, work, shared, sampled);
  }
  __syncthreads();
  if (t == 0) args.sampled[blockIdx.x] = sampled;
}

}  // namespace

size_t sampling_work_bytes(int num_rows) {
  return static_cast<size_t>(num_rows) * sizeof(SamplingWork);
}

SamplingNeeds sampling_needs(const SamplingBatch& batch, int vocab_size) {
  SamplingNeeds needs;
  for (int i = 0; i < batch.num_rows; ++i) {
    const SamplingRow& row = batch.rows[i];
    needs.max_counts = std::max(needs.max_counts, row.num_counts);
    needs.max_biases = std::max(needs.max_biases, row.num_biases);
    needs.masses = needs.masses || needs_masses(row, vocab_size);
    needs.nucleus = needs.nucleus || needs_nucleus(row, vocab_size);
  }
  return needs;
}

cudaError_t launch_sample(const SampleArgs& args, const SamplingNeeds& needs, LaunchStream stream) {
  if (args.num_rows == 0) return cudaSuccess;
  cudaError_t error = launch_penalties(args, needs, stream);
  if (error == cudaSuccess) error = launch_segment_maxima(args, stream);
  if (error == cudaSuccess && needs.masses) error = launch_segment_masses(args, stream);
  if (error == cudaSuccess && needs.nucleus) error = launch_nucleus_border(args, stream);
  if (error != cudaSuccess) return error;
  return launch_overlapping_kernel(draw_kernel, static_cast<unsigned>(args.num_rows),
                                   kSearchThreads, 0, stream, args);
}

}  // namespace beryl::kernels::cuda
