// Sorting a few entries (row, k) by expert in one block: each looks at all others, without counts.
#pragma once

#include "kernels/cuda/primitives.cuh"
#include "kernels/cuda/routing.h"

namespace beryl::kernels::cuda {

constexpr int kMaxFewEntries = 128;

struct FewEntries {
  int32_t ids[kMaxFewEntries];  // filled by the caller, as the weights in memory are
  int32_t slots[kMaxFewEntries];
  int32_t places[kMaxFewEntries];
};

// Leaf of an entry: by expert id, those held elsewhere last.
__device__ inline void write_leaf(const GroupArgs& args, int first_entry, int i,
                                  const int32_t* places, const int32_t* ids) {
  const int row = i / args.top_k;
  const int first = row * args.top_k;
  const bool is_held = places[i] >= 0;
  int at = 0;
  for (int j = first; j < first + args.top_k; ++j) {
    const bool other_is_held = places[j] >= 0;
    at += is_held ? other_is_held && (ids[j] < ids[i] || (ids[j] == ids[i] && j < i))
                  : other_is_held || j < i;
  }
  const int to = first_entry + first + at;
  args.groups.leaf_rows[to] = is_held ? places[i] : -1;
  args.groups.leaf_keys[to] = is_held ? ids[i] : 0;
  if (i == first) {
    args.groups.leaf_offsets[first_entry / args.top_k + row + 1] = first_entry + first + args.top_k;
  }
}

// Called by a whole block whose threads have written entries.ids and waited for each other.
__device__ inline void group_few(const GroupArgs& args, FewEntries& entries) {
  const int count = args.num_rows * args.top_k;
  const int t = static_cast<int>(threadIdx.x);
  const auto num_threads = static_cast<int>(blockDim.x);
  for (int i = t; i < count; i += num_threads) {
    const int32_t id = entries.ids[i];
    entries.slots[i] = id < 0 ? -1 : args.slot_of[id];
  }
  __syncthreads();
  for (int i = t; i < count; i += num_threads) {
    const int slot = entries.slots[i];
    int place = 0;
    for (int j = 0; j < count; ++j) {
      const int other = entries.slots[j];
      place += other >= 0 && (other < slot || (other == slot && j < i));
    }
    entries.places[i] = slot < 0 ? -1 : place;
    if (slot < 0) continue;
    args.groups.row_idx[place] = i / args.top_k;
    args.groups.weight[place] = args.topk_weights[i];
  }
  for (int slot = t; slot <= args.groups.num_local_experts; slot += num_threads) {
    int before = 0;
    int own = 0;
    for (int j = 0; j < count; ++j) {
      before += entries.slots[j] >= 0 && entries.slots[j] < slot;
      own += entries.slots[j] == slot;
    }
    args.groups.expert_offsets[slot] = before;
    if (slot < args.groups.num_local_experts) args.groups.load[slot] += own;
  }
  if (t == 0) args.groups.leaf_offsets[0] = 0;
  __syncthreads();
  for (int i = t; i < count; i += num_threads) {
    write_leaf(args, 0, i, entries.places, entries.ids);
  }
}

}  // namespace beryl::kernels::cuda
