// Sums of the leaves of a TreeSumBatch, four columns a thread.
#pragma once

#include "kernels/cuda/primitives.cuh"
#include "kernels/ops.h"

namespace beryl::kernels::cuda {

constexpr int kMaxSumDepth = 33;  // open nodes of a tree over 32-bit keys

__device__ inline float4 add(const float4& a, const float4& b) {
  return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

// Nodes of a tree that are not complete. Leaves come in key order; the borders of open nodes
// (highest differing bit of neighbours) decrease, so a bit mask is enough to remember them. The
// last node is in a register, the ones before it in shared memory: node i of this thread is
// nodes[i * stride].
struct OpenNodes {
  float4* nodes;
  int stride;
  float4 last = make_float4(0, 0, 0, 0);
  int depth = 0;
  uint32_t borders = 0;
  uint32_t last_key = 0;

  __device__ void push(const float4& leaf, uint32_t key) {
    if (depth > 0) {
      const uint32_t border = 1u << (31 - __clz(static_cast<int>(key ^ last_key)));
      while (borders != 0 && (borders & (~borders + 1)) < border) {
        borders &= borders - 1;
        join();
      }
      borders |= border;
      nodes[(depth - 1) * stride] = last;
    }
    last = leaf;
    ++depth;
    last_key = key;
  }
  __device__ void join() {
    last = add(nodes[(depth - 2) * stride], last);
    --depth;
  }
};

// Columns col .. col + 3 of the sum of a row; 0 without leaves. Several leaves are loaded before
// any of them is added.
__device__ inline float4 sum_leaves(const float* in, const TreeSumBatch& batch, int row, int n,
                                    int col, float4* nodes, int stride) {
  constexpr int kLoads = 8;
  OpenNodes open = {nodes, stride};
  const int per_row = batch.leaves_per_row;
  const int begin = per_row > 0 ? row * per_row : batch.leaf_offsets[row];
  const int end = per_row > 0 ? begin + per_row : batch.leaf_offsets[row + 1];
  for (int first = begin; first < end; first += kLoads) {
    int32_t rows[kLoads];
    int32_t keys[kLoads];
    float4 leaves[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      rows[i] = first + i < end ? batch.leaf_rows[first + i] : -1;
      keys[i] = first + i < end ? batch.leaf_keys[first + i] : 0;
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      leaves[i] = make_float4(0, 0, 0, 0);
      if (rows[i] >= 0) {
        leaves[i] = *reinterpret_cast<const float4*>(in + int64_t{rows[i]} * n + col);
      }
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      if (rows[i] >= 0) open.push(leaves[i], static_cast<uint32_t>(keys[i]));
    }
  }
  while (open.depth > 1) open.join();
  return open.last;
}

}  // namespace beryl::kernels::cuda
