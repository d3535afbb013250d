#include "kernels/cuda/rows.h"

#include <algorithm>

#include "kernels/cuda/primitives.cuh"

namespace beryl::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMaxWarps = 32;
constexpr int kSumThreads = 64;
constexpr int kMaxSumDepth = 33;  // open nodes of a tree over 32-bit keys
constexpr unsigned kMaxBlocks = 4096;

const bf16* bf16_or_null(const TensorView& weight) {
  return weight.empty() ? nullptr : reinterpret_cast<const bf16*>(weight.bf16());
}

unsigned blocks_for(int64_t count, int64_t per_block) {
  return static_cast<unsigned>(
      std::clamp<int64_t>((count + per_block - 1) / per_block, 1, kMaxBlocks));
}

// (mean(x^2) + eps)^-1/2 of the block's row.
__device__ float norm_factor(const float* x, int n, float eps, float* scratch) {
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x) * 4; i < n; i += kThreads * 4) {
    const float4 v = *reinterpret_cast<const float4*>(x + i);
    sum += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
  }
  return 1.0f / sqrtf(block_sum(sum, scratch) / static_cast<float>(n) + eps);
}

__device__ float weight_at(const bf16* weight, int i) {
  return weight == nullptr ? 1.0f : to_float(weight[i]);
}

__global__ void embed_kernel(const bf16* table, const int32_t* ids, float scale, int n,
                             float* out) {
  const int64_t row = blockIdx.x;
  const bf16* from = table + int64_t{ids[row]} * n;
  float* to = out + row * n;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads)
    to[i] = to_float(from[i]) * scale;
}

template <typename Out>
__global__ void rms_norm_kernel(const float* x, const bf16* weight, int n, float eps, Out* out) {
  begin_overlapping_kernel();
  __shared__ float scratch[kMaxWarps];
  const int64_t row = blockIdx.x;
  const float* from = x + row * n;
  const float factor = norm_factor(from, n, eps, scratch);
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) {
    out[row * n + i] = from_float<Out>(from[i] * factor * weight_at(weight, i));
  }
}

__global__ void add_rms_norm_kernel(const float* x, const bf16* weight, int n, float eps,
                                    float* residual) {
  begin_overlapping_kernel();
  __shared__ float scratch[kMaxWarps];
  const int64_t row = blockIdx.x;
  const float* from = x + row * n;
  const float factor = norm_factor(from, n, eps, scratch);
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) {
    residual[row * n + i] += from[i] * factor * weight_at(weight, i);
  }
}

struct MergePointers {
  const float* dense;
  const float* experts;
  float* residual;
  const bf16* dense_norm;
  const bf16* experts_norm;
  const bf16* post_norm;
  float layer_scalar;
  float eps;
  int n;
};

__global__ void merge_ffn_kernel(MergePointers p) {
  begin_overlapping_kernel();
  BERYL_DYNAMIC_SHARED(float, sum);  // [n]
  __shared__ float scratch[kMaxWarps];
  const int64_t first = int64_t{blockIdx.x} * p.n;
  const float dense = norm_factor(p.dense + first, p.n, p.eps, scratch);
  const float experts = norm_factor(p.experts + first, p.n, p.eps, scratch);
  for (int i = static_cast<int>(threadIdx.x); i < p.n; i += kThreads) {
    sum[i] = p.dense[first + i] * dense * to_float(p.dense_norm[i]) +
             p.experts[first + i] * experts * to_float(p.experts_norm[i]);
  }
  __syncthreads();
  const float post = norm_factor(sum, p.n, p.eps, scratch);
  for (int i = static_cast<int>(threadIdx.x); i < p.n; i += kThreads) {
    float& to = p.residual[first + i];
    to = (to + sum[i] * post * to_float(p.post_norm[i])) * p.layer_scalar;
  }
}

__device__ float4 operator+(const float4& a, const float4& b) {
  return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

// Nodes of the tree that are not complete, a column of four numbers a thread. Leaves come in key
// order; the borders of open nodes (highest differing bit of neighbours) decrease, so a bit mask is
// enough to remember them. The last node is in a register, the ones before it in shared memory.
struct OpenNodes {
  float4 (*nodes)[kSumThreads];
  float4 last = {};
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
      nodes[depth - 1][threadIdx.x] = last;
    }
    last = leaf;
    ++depth;
    last_key = key;
  }
  __device__ void join() {
    last = nodes[depth - 2][threadIdx.x] + last;
    --depth;
  }
};

// Block (row, columns). A few leaves are loaded before any of them is added.
__global__ void __launch_bounds__(kSumThreads)
    tree_sum_kernel(const float* in, TreeSumBatch batch, int n, float* out) {
  begin_overlapping_kernel();
  constexpr int kLoads = 8;
  __shared__ float4 nodes[kMaxSumDepth - 1][kSumThreads];
  const int row = static_cast<int>(blockIdx.x);
  const int col = (static_cast<int>(blockIdx.y) * kSumThreads + static_cast<int>(threadIdx.x)) * 4;
  if (col >= n) return;  // no barriers below: each thread uses its own column of `nodes`
  OpenNodes open = {nodes};
  const int end = batch.leaf_offsets[row + 1];
  for (int first = batch.leaf_offsets[row]; first < end; first += kLoads) {
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
      leaves[i] = {};
      if (rows[i] >= 0) leaves[i] = *reinterpret_cast<const float4*>(in + int64_t{rows[i]} * n + col);
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      if (rows[i] >= 0) open.push(leaves[i], static_cast<uint32_t>(keys[i]));
    }
  }
  while (open.depth > 1) open.join();
  *reinterpret_cast<float4*>(out + int64_t{row} * n + col) = open.last;
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

cudaError_t launch_rms_norm(const TensorView& x, const TensorView& weight, float eps,
                            const TensorView& out, LaunchStream stream) {
  const auto rows = static_cast<unsigned>(x.shape[0]);
  const auto n = static_cast<int>(x.shape[1]);
  if (rows == 0) return cudaSuccess;
  if (out.dtype == DType::kBFloat16) {
    return launch_overlapping_kernel(rms_norm_kernel<bf16>, rows, kThreads, 0, stream, x.f32(),
                                     bf16_or_null(weight), n, eps, out.as<bf16>());
  }
  return launch_overlapping_kernel(rms_norm_kernel<float>, rows, kThreads, 0, stream, x.f32(),
                                   bf16_or_null(weight), n, eps, out.f32());
}

cudaError_t launch_add_rms_norm(const TensorView& x, const TensorView& weight, float eps,
                                const TensorView& residual, LaunchStream stream) {
  const auto rows = static_cast<unsigned>(x.shape[0]);
  if (rows == 0) return cudaSuccess;
  return launch_overlapping_kernel(add_rms_norm_kernel, rows, kThreads, 0, stream, x.f32(),
                                   bf16_or_null(weight), static_cast<int>(x.shape[1]), eps,
                                   residual.f32());
}

cudaError_t launch_merge_ffn(const MergeFfnArgs& args, LaunchStream stream) {
  const auto rows = static_cast<unsigned>(args.dense.shape[0]);
  const auto n = static_cast<int>(args.dense.shape[1]);
  if (rows == 0) return cudaSuccess;
  const MergePointers pointers = {args.dense.f32(),
                                  args.experts.f32(),
                                  args.residual.f32(),
                                  bf16_or_null(args.weights.dense_norm),
                                  bf16_or_null(args.weights.experts_norm),
                                  bf16_or_null(args.weights.post_norm),
                                  args.weights.layer_scalar,
                                  args.eps,
                                  n};
  const int shared_bytes = n * static_cast<int>(sizeof(float));
  return launch_overlapping_kernel(merge_ffn_kernel, rows, kThreads, shared_bytes, stream,
                                   pointers);
}

cudaError_t launch_tree_sum(const TensorView& in, const TreeSumBatch& batch, const TensorView& out,
                            LaunchStream stream) {
  if (batch.num_rows == 0) return cudaSuccess;
  const auto n = static_cast<int>(out.shape[1]);
  const dim3 grid(static_cast<unsigned>(batch.num_rows),
                  static_cast<unsigned>((n + kSumThreads * 4 - 1) / (kSumThreads * 4)));
  return launch_overlapping_kernel(tree_sum_kernel, grid, kSumThreads, 0, stream, in.f32(), batch,
                                   n, out.f32());
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
