#include "kernels/cuda/rows.h"

#include <algorithm>

#include "kernels/cuda/sum_tree.cuh"

namespace beryl::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kSumThreads = 64;
constexpr unsigned kMaxBlocks = 4096;

unsigned blocks_for(int64_t count, int64_t per_block) {
  return static_cast<unsigned>(
      std::clamp<int64_t>((count + per_block - 1) / per_block, 1, kMaxBlocks));
}

__global__ void embed_kernel(const bf16* table, const int32_t* ids, float scale, int n,
                             float* out) {
  const int64_t row = blockIdx.x;
  const bf16* from = table + int64_t{ids[row]} * n;
  float* to = out + row * n;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads)
    to[i] = to_float(from[i]) * scale;
}

// Block (row, columns).
__global__ void __launch_bounds__(kSumThreads)
    tree_sum_kernel(const float* in, TreeSumBatch batch, int n, float* out) {
  begin_overlapping_kernel();
  BERYL_DYNAMIC_SHARED(float4, nodes);  // [open nodes but the last, kSumThreads]
  const int row = static_cast<int>(blockIdx.x);
  const int col = (static_cast<int>(blockIdx.y) * kSumThreads + static_cast<int>(threadIdx.x)) * 4;
  if (col >= n) return;
  const int per_row = batch.leaves_per_row;
  const int begin = per_row > 0 ? row * per_row : batch.leaf_offsets[row];
  const int end = per_row > 0 ? begin + per_row : batch.leaf_offsets[row + 1];
  TreeState tree;
  OpenNodes open = {nodes + threadIdx.x, kSumThreads};
  for (int first = begin; first < end; first += kLeafLoads) {
    open.add_leaves(tree.plan(batch, first, end), in + col, n);
  }
  *reinterpret_cast<float4*>(out + int64_t{row} * n + col) = open.finish();
}

__global__ void softcap_kernel(float* x, int64_t count, float cap) {
  begin_overlapping_kernel();
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += stride) {
    x[i] = cap * tanhf(x[i] / cap);
  }
}

__global__ void gelu_mul_kernel(const bf16* gate, const bf16* up, int64_t count, bf16* out) {
  begin_overlapping_kernel();
  const int64_t stride = int64_t{gridDim.x} * kThreads * 8;
  for (int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * 8; i < count; i += stride) {
    const uint4 a = *reinterpret_cast<const uint4*>(gate + i);
    const uint4 b = *reinterpret_cast<const uint4*>(up + i);
    const auto* gates = reinterpret_cast<const bf16*>(&a);
    const auto* ups = reinterpret_cast<const bf16*>(&b);
    uint4 c;
    auto* outs = reinterpret_cast<bf16*>(&c);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      outs[j] = from_float<bf16>(gelu_tanh(to_float(gates[j])) * to_float(ups[j]));
    }
    *reinterpret_cast<uint4*>(out + i) = c;
  }
}

__global__ void fill_hashed_kernel(HashedTensor tensor, uint64_t first_index, uint16_t* out,
                                   size_t count) {
  const size_t stride = size_t{gridDim.x} * kThreads;
  for (size_t i = size_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += stride) {
    out[i] = hashed_weight(tensor, first_index + i);
  }
}

}  // namespace

cudaError_t launch_embed(const uint16_t* table, const int32_t* ids, float scale,
                         const TensorView& out, LaunchStream stream) {
  const auto rows = static_cast<unsigned>(out.shape[0]);
  if (rows == 0) return cudaSuccess;
  return launch_kernel(embed_kernel, rows, kThreads, 0, stream,
                       reinterpret_cast<const bf16*>(table), ids, scale,
                       static_cast<int>(out.shape[1]), out.f32());
}

cudaError_t launch_tree_sum(const TensorView& in, const TreeSumBatch& batch, const TensorView& out,
                            LaunchStream stream) {
  if (batch.num_rows == 0) return cudaSuccess;
  const auto n = static_cast<int>(out.shape[1]);
  const dim3 grid(static_cast<unsigned>(batch.num_rows),
                  static_cast<unsigned>((n + kSumThreads * 4 - 1) / (kSumThreads * 4)));
  const int depth =
      batch.leaves_per_row > 0 ? std::min(batch.leaves_per_row, kMaxSumDepth) : kMaxSumDepth;
  const int shared_bytes = (depth - 1) * kSumThreads * static_cast<int>(sizeof(float4));
  return launch_overlapping_kernel(tree_sum_kernel, grid, kSumThreads, shared_bytes, stream,
                                   in.f32(), batch, n, out.f32());
}

cudaError_t launch_softcap(float* x, int64_t count, float cap, LaunchStream stream) {
  if (count == 0) return cudaSuccess;
  return launch_overlapping_kernel(softcap_kernel, blocks_for(count, kThreads), kThreads, 0, stream,
                                   x, count, cap);
}

cudaError_t launch_gelu_mul(const uint16_t* gate, const uint16_t* up, int64_t count, uint16_t* out,
                            LaunchStream stream) {
  if (count == 0) return cudaSuccess;
  return launch_overlapping_kernel(gelu_mul_kernel, blocks_for(count, kThreads * 8), kThreads, 0,
                                   stream, reinterpret_cast<const bf16*>(gate),
                                   reinterpret_cast<const bf16*>(up), count,
                                   reinterpret_cast<bf16*>(out));
}

cudaError_t launch_fill_hashed(const HashedTensor& tensor, uint64_t first_index, uint16_t* out,
                               size_t count, LaunchStream stream) {
  if (count == 0) return cudaSuccess;
  return launch_kernel(fill_hashed_kernel, blocks_for(static_cast<int64_t>(count), kThreads),
                       kThreads, 0, stream, tensor, first_index, out, count);
}

bool kernels_can_overlap() {
  constexpr int kFirstVersion = 90;
  cudaFuncAttributes attributes = {};
  const cudaError_t error =
      cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&softcap_kernel));
  return error == cudaSuccess && attributes.ptxVersion >= kFirstVersion;
}

}  // namespace beryl::kernels::cuda
