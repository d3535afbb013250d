// Sorting rows by expert. More than a few entries (row, k) are cut into tiles of whole rows, a
// block each, whose warps take consecutive runs: the rank of an entry within its slot is what
// earlier tiles, earlier warps and earlier entries of its warp hold of that slot.
#include "kernels/cuda/group_few.cuh"

namespace beryl::kernels::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kNumWarps = kThreads / kWarpSize;
constexpr int kRounds = 4;  // of a warp over its run of entries
constexpr int kTileEntries = kThreads * kRounds;

__host__ __device__ int tile_rows(int top_k) {
  return kTileEntries / top_k;
}

struct Tile {
  int first;        // entry
  int num_entries;  // whole rows
};
__device__ Tile tile_at(const GroupArgs& args, int index) {
  const int rows = tile_rows(args.top_k);
  const int first_row = index * rows;
  return {first_row * args.top_k, min(rows, args.num_rows - first_row) * args.top_k};
}

// Slot of an entry of the tile, -1: held elsewhere, unused or beyond the tile.
__device__ int slot_at(const GroupArgs& args, const Tile& tile, int i) {
  if (i >= tile.num_entries) return -1;
  const int32_t expert = args.topk_idx[tile.first + i];
  return expert < 0 ? -1 : args.slot_of[expert];
}

// tile_counts[tile][slot]
__global__ void __launch_bounds__(kThreads) count_kernel(GroupArgs args) {
  begin_overlapping_kernel();
  BERYL_DYNAMIC_SHARED(int, counts);  // [num_slots]
  const int num_slots = args.groups.num_local_experts;
  for (int s = static_cast<int>(threadIdx.x); s < num_slots; s += kThreads) counts[s] = 0;
  __syncthreads();
  const Tile tile = tile_at(args, static_cast<int>(blockIdx.x));
  for (int i = static_cast<int>(threadIdx.x); i < tile.num_entries; i += kThreads) {
    const int slot = slot_at(args, tile, i);
    if (slot >= 0) atomicAdd(&counts[slot], 1);
  }
  __syncthreads();
  for (int s = static_cast<int>(threadIdx.x); s < num_slots; s += kThreads) {
    args.tile_counts[int64_t{blockIdx.x} * num_slots + s] = counts[s];
  }
}

// Exclusive sum over the block; *total: of all, the same on all threads.
__device__ int block_exclusive_sum(int value, int* scratch, int* total) {
  int inclusive = value;
  for (int d = 1; d < kWarpSize; d *= 2) {
    const int other = __shfl_up_sync(kAllLanes, inclusive, d);
    if (lane_idx() >= d) inclusive += other;
  }
  __syncthreads();  // nobody still reads the sums of the call before
  if (lane_idx() == kWarpSize - 1) scratch[warp_idx()] = inclusive;
  __syncthreads();
  int before = 0;
  int sum = 0;
  for (int w = 0; w < kNumWarps; ++w) {
    if (w == warp_idx()) before = sum;
    sum += scratch[w];
  }
  *total = sum;
  return before + inclusive - value;
}

// Turns counts of warps into what comes before each warp's first entry of each slot, and writes
// what belongs to slots (the first tile does).
__device__ void place_slots(const GroupArgs& args, int* warp_counts, int* scratch) {
  const int num_slots = args.groups.num_local_experts;
  const auto tile = static_cast<int>(blockIdx.x);
  const auto num_tiles = static_cast<int>(gridDim.x);
  int offset = 0;
  for (int base = 0; base < num_slots; base += kThreads) {
    const int slot = base + static_cast<int>(threadIdx.x);
    int count = 0;    // of all tiles
    int earlier = 0;  // of tiles before this one
    if (slot < num_slots) {
      if (num_tiles == 1) {
        for (int w = 0; w < kNumWarps; ++w) count += warp_counts[w * num_slots + slot];
      }
      for (int t = 0; num_tiles > 1 && t < num_tiles; ++t) {
        const int32_t c = args.tile_counts[int64_t{t} * num_slots + slot];
        earlier += t < tile ? c : 0;
        count += c;
      }
    }
    int total;
    const int first = offset + block_exclusive_sum(count, scratch, &total);
    offset += total;
    if (slot >= num_slots) continue;
    if (tile == 0) {
      args.groups.expert_offsets[slot] = first;
      args.groups.load[slot] += count;
    }
    int before = first + earlier;
    for (int w = 0; w < kNumWarps; ++w) {
      const int c = warp_counts[w * num_slots + slot];
      warp_counts[w * num_slots + slot] = before;
      before += c;
    }
  }
  if (tile == 0 && threadIdx.x == 0) args.groups.expert_offsets[num_slots] = offset;
}

// Lanes with the same slot; of no slot, nothing certain. Bit by bit: match instructions take
// longer.
__device__ unsigned lanes_of_slot(int slot, int num_slots) {
  unsigned lanes = __ballot_sync(kAllLanes, slot >= 0);
  for (int bit = 1; bit < num_slots; bit *= 2) {
    const bool is_set = (slot & bit) != 0;
    const unsigned set = __ballot_sync(kAllLanes, is_set);
    lanes &= is_set ? set : ~set;
  }
  return lanes;
}

__global__ void __launch_bounds__(kThreads) group_kernel(GroupArgs args) {
  begin_overlapping_kernel();
  BERYL_DYNAMIC_SHARED(int, places);  // [kTileEntries]
  __shared__ int scratch[kNumWarps];
  int* const ids = places + kTileEntries;       // [kTileEntries]
  int* const warp_counts = ids + kTileEntries;  // [kNumWarps, num_slots]
  const int num_slots = args.groups.num_local_experts;
  for (int i = static_cast<int>(threadIdx.x); i < kNumWarps * num_slots; i += kThreads) {
    warp_counts[i] = 0;
  }
  const Tile tile = tile_at(args, static_cast<int>(blockIdx.x));
  int slots[kRounds];
  int ranks[kRounds] = {};
#pragma unroll
  for (int r = 0; r < kRounds; ++r) {
    const int i = (warp_idx() * kRounds + r) * kWarpSize + lane_idx();
    slots[r] = slot_at(args, tile, i);
    if (i < tile.num_entries) ids[i] = args.topk_idx[tile.first + i];
  }
  __syncthreads();
  int* mine = warp_counts + warp_idx() * num_slots;
#pragma unroll
  for (int r = 0; r < kRounds; ++r) {
    const unsigned peers = lanes_of_slot(slots[r], num_slots);
    const int before = __popc(peers & ((1u << lane_idx()) - 1));
    if (slots[r] >= 0) ranks[r] = mine[slots[r]] + before;
    __syncwarp();
    if (slots[r] >= 0 && before == 0) mine[slots[r]] += __popc(peers);
    __syncwarp();
  }
  __syncthreads();
  place_slots(args, warp_counts, scratch);
  __syncthreads();
#pragma unroll
  for (int r = 0; r < kRounds; ++r) {
    const int i = (warp_idx() * kRounds + r) * kWarpSize + lane_idx();
    if (i >= tile.num_entries) continue;
    const int entry = tile.first + i;
    const int to = slots[r] < 0 ? -1 : mine[slots[r]] + ranks[r];
    places[i] = to;
    if (to < 0) continue;
    args.groups.row_idx[to] = entry / args.top_k;
    args.groups.weight[to] = args.topk_weights[entry];
  }
  if (blockIdx.x == 0 && threadIdx.x == 0) args.groups.leaf_offsets[0] = 0;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < tile.num_entries; i += kThreads) {
    write_leaf(args, tile.first, i, places, ids);
  }
}

constexpr int kFewThreads = 128;

__global__ void __launch_bounds__(kFewThreads) group_few_kernel(GroupArgs args) {
  begin_overlapping_kernel();
  __shared__ FewEntries entries;
  for (int i = static_cast<int>(threadIdx.x); i < args.num_rows * args.top_k; i += kFewThreads) {
    entries.ids[i] = args.topk_idx[i];
  }
  __syncthreads();
  group_few(args, entries);
}

int num_tiles(int num_rows, int top_k) {
  const int rows = tile_rows(top_k);
  return num_rows > 0 ? (num_rows + rows - 1) / rows : 1;
}

}  // namespace

int64_t group_work_ints(int num_rows, int top_k, int num_slots) {
  return int64_t{num_tiles(num_rows, top_k)} * num_slots;
}

cudaError_t launch_group_by_expert(const GroupArgs& args, LaunchStream stream) {
  if (args.num_rows * args.top_k <= kMaxFewEntries) {
    return launch_overlapping_kernel(group_few_kernel, 1, kFewThreads, 0, stream, args);
  }
  const int tiles = num_tiles(args.num_rows, args.top_k);
  const int slot_bytes = args.groups.num_local_experts * static_cast<int>(sizeof(int));
  if (tiles > 1) {
    const cudaError_t error = launch_overlapping_kernel(count_kernel, static_cast<unsigned>(tiles),
                                                        kThreads, slot_bytes, stream, args);
    if (error != cudaSuccess) return error;
  }
  const int shared_bytes =
      kNumWarps * slot_bytes + 2 * kTileEntries * static_cast<int>(sizeof(int));
  return launch_overlapping_kernel(group_kernel, static_cast<unsigned>(tiles), kThreads,
                                   shared_bytes, stream, args);
}

}  // namespace beryl::kernels::cuda
