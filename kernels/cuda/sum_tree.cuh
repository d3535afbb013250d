// Sums of the leaves of a TreeSumBatch, four columns a thread.
#pragma once

#include "kernels/cuda/primitives.cuh"
#include "kernels/ops.h"

namespace beryl::kernels::cuda {

constexpr int kMaxSumDepth = 33;  // open nodes of a tree over 32-bit keys

__device__ inline float4 add(const float4& a, const float4& b) {
  return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

constexpr int kLeafLoads = 8;  // leaves loaded before any of them is added

// The next leaves of a tree, the same for all columns. Leaves come in key order; the borders of
// open nodes (highest differing bit of neighbours) decrease, so a bit mask is enough to remember
// them.
struct LeafPlan {
  int32_t rows[kLeafLoads];  // -1: none
  uint64_t joins;            // 8 bits a leaf: how many open nodes end before it
};

struct TreeState {
  uint32_t borders = 0;
  uint32_t last_key = 0;
  bool is_empty = true;

  __device__ LeafPlan plan(const TreeSumBatch& batch, int first, int end) {
    LeafPlan plan;
    plan.joins = 0;
    uint32_t keys[kLeafLoads];
#pragma unroll
    for (int i = 0; i < kLeafLoads; ++i) {
      plan.rows[i] = first + i < end ? batch.leaf_rows[first + i] : -1;
      keys[i] = first + i < end ? static_cast<uint32_t>(batch.leaf_keys[first + i]) : 0;
    }
#pragma unroll
    for (int i = 0; i < kLeafLoads; ++i) {
      if (plan.rows[i] < 0) continue;
      if (!is_empty) {
        const uint32_t border = 1u << (31 - __clz(static_cast<int>(keys[i] ^ last_key)));
        plan.joins |= static_cast<uint64_t>(__popc(borders & (border - 1))) << (8 * i);
        borders = (borders & ~(border - 1)) | border;
      }
      last_key = keys[i];
      is_empty = false;
    }
    return plan;
  }
};

// Open nodes of four columns: the last in a register, the ones before it in shared memory, node i
// at nodes[i * stride].
struct OpenNodes {
  float4* nodes;
  int stride;
  float4 last = make_float4(0, 0, 0, 0);
  int depth = 0;

  __device__ void join() {
    last = add(nodes[(depth - 2) * stride], last);
    --depth;
  }
  // Adds the leaves of a plan, rows of `in` at one column.
  __device__ void add_leaves(const LeafPlan& plan, const float* in, int n) {
    float4 leaves[kLeafLoads];
#pragma unroll
    for (int i = 0; i < kLeafLoads; ++i) {
      if (plan.rows[i] >= 0) {
        leaves[i] = *reinterpret_cast<const float4*>(in + int64_t{plan.rows[i]} * n);
      }
    }
#pragma unroll
    for (int i = 0; i < kLeafLoads; ++i) {
      if (plan.rows[i] < 0) continue;
      for (auto joins = static_cast<int>(plan.joins >> (8 * i) & 0xff); joins > 0; --joins) join();
      if (depth > 0) nodes[(depth - 1) * stride] = last;
      last = leaves[i];
      ++depth;
    }
  }
  __device__ float4 finish() {
    while (depth > 1) join();
    return last;
  }
};

}  // namespace beryl::kernels::cuda
