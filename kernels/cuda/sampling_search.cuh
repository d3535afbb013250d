// Searches by one block among the candidates of a row. A threshold (the k-th largest logit, the end
// of a nucleus, the drawn token) is where weights, added from the largest key down, reach a goal.
// Few candidates are sorted, a thread each; among many the key is found digit by digit with
// weighted histograms, without sorting.
#pragma once

#include "kernels/cuda/sampling_row.cuh"

namespace beryl::kernels::cuda {

constexpr int kSearchThreads = 1024;
constexpr int kSearchWarps = kSearchThreads / kWarpSize;
constexpr int kMaxDigitBits = 11;
constexpr int kLaneKeys = 8;  // sorted keys of a lane of the warp that searches them
constexpr int kMaxSorted = kLaneKeys * kWarpSize;
static_assert(kMaxSegments == kSearchThreads);

struct SearchShared {
  union {
    u64 histogram[1 << kMaxDigitBits];
    u64 exchange[kSearchThreads];
  };
  u64 sorted[kSearchThreads];
  u64 warp_sums[kSearchWarps];
  u64 found;   // by the searches below
  u64 before;  // weight before it
  unsigned short segments[kMaxSegments];
  unsigned num_segments;
  unsigned num_listed;
  u64 goal;      // of the draw
  int token_id;  // drawn
};

// Tokens of a row: all, or those whose keys are listed.
struct Source {
  const u64* keys = nullptr;  // null: the whole row
  int count = 0;
  bool is_sorted = false;  // count <= kMaxSorted keys in `sorted`, largest first

  __device__ u64 key(const Row& row, int i) const {
    return keys == nullptr ? key_of(row.logits[i], i) : keys[i];
  }
  __device__ float logit(const Row& row, int i) const {
    return keys == nullptr ? row.logits[i] : logit_of(keys[i]);
  }
};

__device__ inline u64 warp_inclusive_sum(u64 value) {
  for (int d = 1; d < kWarpSize; d *= 2) {
    const u64 other = __shfl_up_sync(kAllLanes, value, d);
    if (lane_idx() >= d) value += other;
  }
  return value;
}

// Sum of the threads up to this one; *total: of all, the same on all threads.
__device__ inline u64 block_inclusive_sum(u64 value, SearchShared& shared, u64* total) {
  static_assert(kSearchWarps == kWarpSize);
  value = warp_inclusive_sum(value);
  __syncthreads();  // nobody still reads the sums of the call before
  if (lane_idx() == kWarpSize - 1) shared.warp_sums[warp_idx()] = value;
  __syncthreads();
  const u64 sums = warp_inclusive_sum(shared.warp_sums[lane_idx()]);
  *total = __shfl_sync(kAllLanes, sums, kWarpSize - 1);
  const u64 before = __shfl_sync(kAllLanes, sums, max(warp_idx() - 1, 0));
  return warp_idx() == 0 ? value : before + value;
}

__device__ inline u64 block_max(u64 value, SearchShared& shared) {
  value = warp_max(value);
  __syncthreads();
  if (lane_idx() == 0) shared.warp_sums[warp_idx()] = value;
  __syncthreads();
  return warp_max(shared.warp_sums[lane_idx()]);
}

__device__ inline u64 block_total(u64 value, SearchShared& shared) {
  u64 total;
  block_inclusive_sum(value, shared, &total);
  return total;
}

// Thread t < size gets the t-th largest of the keys of threads 0 .. size - 1 (a power of two, at
// least a warp).
__device__ inline u64 sort_keys(u64 key, int size, SearchShared& shared) {
  const int t = static_cast<int>(threadIdx.x);
  for (int run = 2; run <= size; run *= 2) {
    for (int distance = run / 2; distance > 0; distance /= 2) {
      const bool takes_larger = ((t & distance) == 0) == ((t & run) == 0);
      u64 other = key;
      if (distance >= kWarpSize) {
        __syncthreads();
        if (t < size) shared.exchange[t] = key;
        __syncthreads();
        if (t < size) other = shared.exchange[t ^ distance];
      } else if (t < size) {  // whole warps
        other = __shfl_xor_sync(kAllLanes, key, distance);
      }
      key = takes_larger ? max(key, other) : min(key, other);
    }
  }
  __syncthreads();
  return key;
}

// Sorted keys and their masses in the registers of one warp, lane l those from l * kLaneKeys on.
struct SortedKeys {
  u64 keys[kLaneKeys];
  float masses[kLaneKeys];
  int count;

  __device__ SortedKeys(const Row& row, const Source& source, const SearchShared& shared)
      : count(source.count) {
#pragma unroll
    for (int i = 0; i < kLaneKeys; ++i) {
      keys[i] = at(i) < count ? shared.sorted[at(i)] : 0;
      masses[i] = at(i) < count ? mass_of(row, logit_of(keys[i])) : 0;
    }
  }
  __device__ static int at(int i) {
    return lane_idx() * kLaneKeys + i;
  }

  __device__ u64 weight(int i, float min_mass) const {
    if (at(i) >= count || masses[i] < min_mass) return 0;
    return __float2ull_rz(masses[i] * kMassUnits);
  }
  __device__ u64 total(float min_mass) const {
    u64 sum = 0;
#pragma unroll
    for (int i = 0; i < kLaneKeys; ++i) sum += weight(i, min_mass);
    return __shfl_sync(kAllLanes, warp_inclusive_sum(sum), kWarpSize - 1);
  }
  // The first key, from the largest on, at which weights reach `goal`: its place; 1 <= goal <=
  // total.
  __device__ int find(float min_mass, u64 goal) const {
    u64 sum = 0;
#pragma unroll
    for (int i = 0; i < kLaneKeys; ++i) sum += weight(i, min_mass);
    u64 before = warp_inclusive_sum(sum) - sum;
    int found = kMaxSorted;
#pragma unroll
    for (int i = 0; i < kLaneKeys; ++i) {
      before += weight(i, min_mass);
      if (found == kMaxSorted && before >= goal) found = at(i);
    }
    return __reduce_min_sync(kAllLanes, found);
  }
  // Leaves out what comes after the nucleus of weight `goal`.
  __device__ void cut(u64 goal) {
    count = find(0, goal) + 1;
  }
};

__device__ inline u64 total_weight(const Row& row, const Source& source,
                                   const Candidates& candidates, SearchShared& shared) {
  u64 sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < source.count; i += kSearchThreads) {
    sum += candidates.weight(row, source.logit(row, i), source.key(row, i));
  }
  return block_total(sum, shared);
}

// The digit at which the sum of bins, from the largest digit down, reaches `goal`, and the sum
// before it, into shared.found and shared.before.
__device__ inline void find_digit(int num_bins, u64 goal, SearchShared& shared) {
  const int first = static_cast<int>(threadIdx.x) * 2;  // counted from the largest digit
  const u64 a = first < num_bins ? shared.histogram[num_bins - 1 - first] : 0;
  const u64 b = first + 1 < num_bins ? shared.histogram[num_bins - 2 - first] : 0;
  u64 total;
  const u64 inclusive = block_inclusive_sum(a + b, shared, &total);
  const u64 before = inclusive - a - b;
  if (before < goal && goal <= before + a) {
    shared.found = static_cast<u64>(num_bins - 1 - first);
    shared.before = before;
  } else if (before + a < goal && goal <= inclusive) {
    shared.found = static_cast<u64>(num_bins - 2 - first);
    shared.before = before + a;
  }
  __syncthreads();
}

// histogram[bin] += weight, by all lanes of a warp; once where all have the same bin, as they often
// do.
__device__ inline void add_to_bin(int bin, u64 weight, u64* histogram) {
  const unsigned adding = __ballot_sync(kAllLanes, weight != 0);
  if (adding == 0) return;
  const int leader = __ffs(static_cast<int>(adding)) - 1;
  const int common = __shfl_sync(kAllLanes, bin, leader);
  if (__ballot_sync(kAllLanes, weight != 0 && bin != common) != 0) {
    if (weight != 0) atomicAdd(&histogram[bin], weight);
    return;
  }
  for (int d = kWarpSize / 2; d > 0; d /= 2) weight += __shfl_xor_sync(kAllLanes, weight, d);
  if (lane_idx() == leader) atomicAdd(&histogram[common], weight);
}

// The key at which the weights of candidates, largest key first, reach `goal`; 1 <= goal <= their
// total.
__device__ inline u64 select_key(const Row& row, const Source& source, const Candidates& candidates,
                                 u64 goal, SearchShared& shared) {
  constexpr int kShifts[] = {42, 31, 21, 10, 0};
  constexpr int kBits[] = {11, 11, 10, 11, 10};
  u64 prefix = 0;
  for (int pass = 0; pass < 5; ++pass) {
    const int shift = kShifts[pass];
    const int bits = kBits[pass];
    const int num_bins = 1 << bits;
    for (int i = static_cast<int>(threadIdx.x); i < num_bins; i += kSearchThreads) {
      shared.histogram[i] = 0;
    }
    __syncthreads();
    for (int base = 0; base < source.count; base += kSearchThreads) {
      const int i = base + static_cast<int>(threadIdx.x);
      u64 key = 0;
      u64 weight = 0;
      if (i < source.count) {
        key = source.key(row, i);
        const bool is_possible = key >> (shift + bits) == prefix;
        if (is_possible) weight = candidates.weight(row, source.logit(row, i), key);
      }
      const auto bin = static_cast<int>(key >> shift & static_cast<u64>(num_bins - 1));
      add_to_bin(bin, weight, shared.histogram);
    }
    __syncthreads();
    find_digit(num_bins, goal, shared);
    prefix = (prefix << bits) | shared.found;
    goal -= shared.before;
    __syncthreads();
  }
  return prefix;
}

// What was listed in work.list; the whole row where that was too much.
__device__ inline Source listed_source(const Row& row, const SamplingWork& work, unsigned count,
                                       SearchShared& shared) {
  if (count > kListCapacity) return {.keys = nullptr, .count = row.vocab_size};
  const auto listed = static_cast<int>(count);
  if (listed > kMaxSorted) return {.keys = work.list, .count = listed};
  int size = kWarpSize;
  while (size < listed) size *= 2;
  const int t = static_cast<int>(threadIdx.x);
  shared.sorted[t] = sort_keys(t < listed ? work.list[t] : 0, size, shared);
  __syncthreads();
  return {.keys = work.list, .count = listed, .is_sorted = true};
}

// A key that at least `count` tokens reach and few more, 0: that many are not possible. Segments
// are joined to groups, several times as many as tokens are wanted; the count-th largest of their
// maxima is the bound.
__device__ inline u64 bound_of_largest(u64 segment_best, int count, SearchShared& shared) {
  constexpr int kGroupsPerToken = 4;
  int size = kWarpSize;
  while (size < kMaxSegments && size < count * kGroupsPerToken) size *= 2;
  const int t = static_cast<int>(threadIdx.x);
  __syncthreads();
  shared.sorted[t] = segment_best;
  __syncthreads();
  u64 best = segment_best;
  for (int i = t + size; i < kMaxSegments && t < size; i += size)
    best = max(best, shared.sorted[i]);
  best = sort_keys(best, size, shared);
  shared.sorted[t] = best;
  __syncthreads();
  return shared.sorted[count - 1];
}

// A source with at least the `count` largest logits; only segments that reach the bound are read.
__device__ inline Source gather_largest(const Row& row, SamplingWork& work, int count,
                                        SearchShared& shared) {
  if (count > kMaxSegments) return {.keys = nullptr, .count = row.vocab_size};
  const int t = static_cast<int>(threadIdx.x);
  const u64 best = t < num_segments(row.vocab_size) ? work.segment_best[t] : 0;
  if (t == 0) shared.num_segments = shared.num_listed = 0;
  const u64 bound = bound_of_largest(best, count, shared);
  if (best != 0 && best >= bound) {
    shared.segments[atomicAdd(&shared.num_segments, 1u)] = static_cast<unsigned short>(t);
  }
  __syncthreads();
  for (unsigned i = static_cast<unsigned>(warp_idx()); i < shared.num_segments; i += kSearchWarps) {
    visit_segment(row.logits, row.vocab_size, shared.segments[i], [&](int id, float logit) {
      const u64 key = key_of(logit, id);
      append_keys(logit != -CUDART_INF_F && key >= bound, key, &shared.num_listed, work.list);
    });
  }
  __syncthreads();
  return listed_source(row, work, shared.num_listed, shared);
}

}  // namespace beryl::kernels::cuda
