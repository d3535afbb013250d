// What the wgmma kernels of attention share: a ring of tiles that one warpgroup fills and two
// warpgroups empty, and the softmax of a tile whose scores lie in registers.
#pragma once

#include <cstring>

#include "kernels/cuda/attention_block.cuh"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/tensor_map.h"

namespace beryl::kernels::cuda {

static_assert(kColumnNumbers == kSwizzleRowNumbers);

constexpr int kConsumers = 2;  // warpgroups
constexpr int kConsumerThreads = kConsumers * kWarpgroupThreads;
constexpr int kProducerThreads = kWarpgroupThreads;  // after the consumers; one warp has work
constexpr int kProducerRegisters = 56;
constexpr int kConsumerRegisters = 224;  // 64,512 of the 65,536 of an SM
constexpr int kRingThreads = kConsumerThreads + kProducerThreads;
constexpr int kWarpgroupRows = 64;  // of the products of one warpgroup

// The same on all lanes, and known to be.
__device__ inline int warpgroup_idx() {
  return __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarpgroupThreads, 0);
}

// kSlots tiles of kSlotBytes at `data`; tile i lies in slot i % kSlots. Two barriers a slot: its
// tile is there (the producer has arrived and all bytes have); its tile is used up (every consumer
// warp has).
template <int kSlots, int kSlotBytes>
struct Ring {
  static constexpr int kNumSlots = kSlots;
  static constexpr int kBarrierBytes = kSlots * 2 * 8;
  static constexpr int kBytes = kSlots * kSlotBytes;
  static_assert(kSlotBytes % kSwizzleAlignment == 0);

  uint32_t data;
  uint32_t barriers;

  __device__ uint32_t tile(int i) const {
    return data + static_cast<uint32_t>(i % kSlots * kSlotBytes);
  }
  __device__ uint32_t full(int i) const { return barriers + static_cast<uint32_t>(i % kSlots * 8); }
  __device__ uint32_t empty(int i) const {
    return barriers + static_cast<uint32_t>((kSlots + i % kSlots) * 8);
  }
  __device__ static uint32_t parity(int i) { return static_cast<uint32_t>(i / kSlots & 1); }

  // By one thread, before the block meets.
  __device__ void init() const {
    for (int i = 0; i < kSlots; ++i) {
      init_barrier(full(i), 1);
      init_barrier(empty(i), kConsumerThreads / kWarpSize);
    }
  }
  __device__ void wait_full(int i) const { wait_barrier(full(i), parity(i)); }
  // By all lanes of a consumer warp whose products with the tile have ended.
  __device__ void release(int i) const {
    __syncwarp();
    if (lane_idx() == 0) arrive(empty(i));
  }
};

constexpr int kBoxRows = kCopiedKeys;  // of one tensor copy
constexpr int kBoxBytes = kBoxRows * kSwizzleRowBytes;

// Fills a ring with tiles of kRows cache entries, kColumns times 64 numbers each, by one warp.
template <int kRows, int kColumns, typename Ring>
struct TileProducer {
  static_assert(kRows % kBoxRows == 0);
  const AttentionArgs& args;
  const Block& block;
  const CUtensorMap& map;  // [entries or rows of K and V, numbers]
  Ring ring;
  uint32_t edge_barrier;  // of one arrival
  unsigned char* memory;  // shared memory from address 0 of `ring` on
  uint32_t edge_parity = 0;
  int num_started = 0;

  // The next tile: keys from `position` on (a multiple of kBoxRows); part: 1 for V of sliding
  // layers.
  __device__ void copy(int position, int part) {
    const int i = num_started++;
    if (i >= Ring::kNumSlots) {
      wait_barrier(ring.empty(i - Ring::kNumSlots), Ring::parity(i - Ring::kNumSlots));
    }
    const bool is_edge = position < block.keys.first || position + kRows - 1 > block.keys.last;
    const uint32_t barrier = is_edge ? edge_barrier : ring.full(i);
    const int num_boxes =
        min(kRows / kBoxRows, (block.keys.last - position) / kBoxRows + 1) * kColumns;
    if (lane_idx() == 0) arrive_expecting(barrier, static_cast<uint32_t>(num_boxes * kBoxBytes));
    __syncwarp();
    for (int box = lane_idx(); box < num_boxes; box += kWarpSize) {
      const int column = box % kColumns;
      const int group = box / kColumns;
      copy_tensor(ring.tile(i) +
                      static_cast<uint32_t>((column * kRows + group * kBoxRows) * kSwizzleRowBytes),
                  map, barrier, column * kColumnNumbers,
                  args.cache.row(block.table, block.kv_head, position + group * kBoxRows, part));
    }
    __syncwarp();
    if (is_edge) finish_edge(i, position);
  }

 private:
  // A tile with keys that nobody sees: they become zeros, so that what lies there cannot come in.
  __device__ void finish_edge(int i, int position) {
    wait_barrier(edge_barrier, edge_parity);
    edge_parity ^= 1;
    unsigned char* tile = memory + (ring.tile(i) - ring.data);
    constexpr int kChunks = kColumns * 8;
    for (int c = lane_idx(); c < kRows * kChunks; c += kWarpSize) {
      const int row = c / kChunks;
      const int p = position + row;
      if (p >= block.keys.first && p <= block.keys.last) continue;
      *reinterpret_cast<uint4*>(tile + c % kChunks / 8 * kRows * kSwizzleRowBytes +
                                row * kSwizzleRowBytes + c % 8 * 16) = make_uint4(0, 0, 0, 0);
    }
    fence_async_proxy();
    __syncwarp();
    if (lane_idx() == 0) arrive(ring.full(i));
  }
};

// Running softmax of the two rows that a thread holds parts of.
struct RowSoftmax {
  KeyRange keys[2];
  float top[2];    // the largest score so far
  float total[2];  // this lane's part of the sum of exp(score - top)
};

// The first of those rows, in the product of a warpgroup; the other is 8 further.
__device__ inline int first_product_row() {
  return warp_idx() % 4 * 16 + lane_idx() / 4;
}

__device__ inline RowSoftmax begin_softmax(const AttentionArgs& args, const Block& block,
                                           int first_query) {
  RowSoftmax state = {};
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    state.keys[h] = block.keys_of(args, first_query + h * 8);
    state.top[h] = -CUDART_INF_F;
  }
  return state;
}

constexpr float kLog2E = 1.4426950408889634f;

// Scores of kCols keys from `position` on, as wgmma left them, become exp(score - top). state.top
// is raised and state.total follows; `factor` is what sums so far must be multiplied by.
template <int kCols>
__device__ void update_softmax(float (&scores)[kCols / 2], int position, RowSoftmax& state,
                               float (&factor)[2]) {
  const int first_key = position + lane_idx() % 4 * 2;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (position < state.keys[h].first || position + kCols - 1 > state.keys[h].last) {
#pragma unroll
      for (int j = 0; j < kCols / 8; ++j) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int key = first_key + j * 8 + i;
          const bool visible = key >= state.keys[h].first && key <= state.keys[h].last;
          if (!visible) scores[j * 4 + h * 2 + i] = -CUDART_INF_F;
        }
      }
    }
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float top = state.top[h];
#pragma unroll
    for (int j = 0; j < kCols / 8; ++j) {
      top = fmaxf(top, fmaxf(scores[j * 4 + h * 2], scores[j * 4 + h * 2 + 1]));
    }
    top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 1));
    top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 2));
    const float base = top == -CUDART_INF_F ? 0.0f : top * kLog2E;  // nothing seen yet: 2^-inf = 0
    factor[h] = exp2_fast(state.top[h] * kLog2E - base);
    float sum = 0;
#pragma unroll
    for (int j = 0; j < kCols / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& score = scores[j * 4 + h * 2 + i];
        score = exp2_fast(score * kLog2E - base);
        sum += score;
      }
    }
    state.total[h] = state.total[h] * factor[h] + sum;
    state.top[h] = top;
  }
}

// As bf16 pairs in registers of an A operand: probs[s] is of keys 16 s .. 16 s + 15.
template <int kCols>
__device__ void pack_probs(const float (&scores)[kCols / 2], uint32_t (&probs)[kCols / 16][4]) {
#pragma unroll
  for (int s = 0; s < kCols / 16; ++s) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const __nv_bfloat162 pair =
          __floats2bfloat162_rn(scores[s * 8 + i * 2], scores[s * 8 + i * 2 + 1]);
      std::memcpy(&probs[s][i], &pair, sizeof(pair));
    }
  }
}

// Over the four lanes of a row.
__device__ inline float row_total(float total) {
  total += __shfl_xor_sync(kAllLanes, total, 1);
  return total + __shfl_xor_sync(kAllLanes, total, 2);
}

template <int kSize>
__device__ inline void scale_rows(float (&sums)[kSize], const float (&factor)[2]) {
#pragma unroll
  for (int i = 0; i < kSize; i += 4) {
    sums[i] *= factor[0];
    sums[i + 1] *= factor[0];
    sums[i + 2] *= factor[1];
    sums[i + 3] *= factor[1];
  }
}

// The operand `bytes` further on.
__device__ inline uint64_t moved(uint64_t operand, int bytes) {
  return operand + static_cast<uint64_t>(bytes >> 4);
}

// Results of a thread's two rows: columns 8 j + 2 (lane % 4) and + 1 from `first_dim` on lie in
// sums[4 j ..]. `total` is complete.
template <int kHeadDim, int kSize>
__device__ void write_rows(const AttentionArgs& args, const Block& block, const Output& output,
                           int first_query, int first_dim, const RowSoftmax& state,
                           const float (&total)[2], const float (&sums)[kSize]) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int query = first_query + h * 8;
    if (query >= block.num_queries) continue;
    const int64_t result = block.result(args, query);
    if (output.is_partial && first_dim == 0 && lane_idx() % 4 == 0) {
      output.partials.top_total[result] = make_float2(state.top[h], total[h]);
    }
    const float factor = output.is_partial ? 1.0f : 1.0f / total[h];
    const int64_t at = result * kHeadDim + first_dim + lane_idx() % 4 * 2;
#pragma unroll
    for (int j = 0; j < kSize / 4; ++j) {
      output.write(args, at + j * 8, sums[j * 4 + h * 2] * factor,
                   sums[j * 4 + h * 2 + 1] * factor);
    }
  }
}

// Grid (splits, KV heads, tiles).
template <typename Kernel>
cudaError_t launch_ring_kernel(Kernel kernel, int shared_bytes, const AttentionArgs& args,
                               const AttentionPass& pass, const AttentionPartials& partials,
                               LaunchStream stream) {
  const dim3 grid(static_cast<unsigned>(pass.num_splits),
                  static_cast<unsigned>(args.shape.num_kv_heads),
                  static_cast<unsigned>(pass.num_tiles));
  CUtensorMap map;
  const int64_t width = args.cache.entry_stride;
  const cudaError_t error = make_tensor_map(
      map, args.cache.data, {{width, 1, kColumnNumbers}, {args.cache.num_rows, width, kBoxRows}});
  if (error != cudaSuccess) return error;
  return launch_overlapping_kernel(kernel, grid, kRingThreads, shared_bytes, stream, args, pass,
                                   Output{pass.num_splits > 1, partials}, map);
}

}  // namespace beryl::kernels::cuda
