// A block a row, which it holds in registers: thread t has vectors t, t + blockDim.x, ... of four
// numbers. Few rows: as many threads as vectors, so that each waits for memory once.
#include "kernels/cuda/norms.h"

#include "kernels/cuda/sum_tree.cuh"

namespace beryl::kernels::cuda {
namespace {

constexpr int kMaxWarps = 32;
constexpr int kFewRows = 264;  // two blocks for each multiprocessor of an H100

// Vectors of a thread, and most threads of a block.
template <int kVectorsOf, int kThreadsOf>
struct Shape {
  static constexpr int kVectors = kVectorsOf;
  static constexpr int kThreads = kThreadsOf;
  static constexpr int64_t kMaxWidth = int64_t{kVectors} * kThreads * 4;
};
using FewRows = Shape<1, 1024>;
using ManyRows = Shape<3, 256>;
using WideRows = Shape<3, 1024>;
static_assert(kMaxNormWidth == WideRows::kMaxWidth);

__device__ int column(int vector) {
  return (static_cast<int>(threadIdx.x) + vector * static_cast<int>(blockDim.x)) * 4;
}

// Brings weights of a norm to the second-level cache: no kernel of a step writes them.
__device__ void prefetch_weight(const bf16* weight, int n) {
  constexpr int kLine = 64;
  const int stride = static_cast<int>(blockDim.x) * kLine;
  for (int i = static_cast<int>(threadIdx.x) * kLine; weight != nullptr && i < n; i += stride) {
    prefetch(weight + i);
  }
}

__device__ float4 load_weight(const bf16* weight, int at) {
  if (weight == nullptr) return make_float4(1, 1, 1, 1);
  const uint2 packed = *reinterpret_cast<const uint2*>(weight + at);
  const auto* w = reinterpret_cast<const bf16*>(&packed);
  return make_float4(to_float(w[0]), to_float(w[1]), to_float(w[2]), to_float(w[3]));
}

// x * factor * weight
__device__ float4 scaled(const float4& x, float factor, const float4& w) {
  return make_float4(x.x * factor * w.x, x.y * factor * w.y, x.z * factor * w.z,
                     x.w * factor * w.w);
}
__device__ float squares(const float4& v) {
  return v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
}

template <int kVectors>
struct Row {
  float4 v[kVectors];

  __device__ void load(const float* from, int n) {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      v[i] = column(i) < n ? *reinterpret_cast<const float4*>(from + column(i))
                           : make_float4(0, 0, 0, 0);
    }
  }
  __device__ float sum_of_squares() const {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) sum += squares(v[i]);
    return sum;
  }
};

__device__ float norm_factor(float sum, int n, float eps) {
  return 1.0f / sqrtf(sum / static_cast<float>(n) + eps);
}

__device__ void store(float* to, const float4& value) {
  *reinterpret_cast<float4*>(to) = value;
}
struct alignas(8) Four {
  bf16 numbers[4];
};
__device__ void store(bf16* to, const float4& value) {
  *reinterpret_cast<Four*>(to) = {{from_float<bf16>(value.x), from_float<bf16>(value.y),
                                   from_float<bf16>(value.z), from_float<bf16>(value.w)}};
}

struct ThenPointers {
  int count;
  const bf16* weight[kMaxNormsThen];
  bf16* out[kMaxNormsThen];
};

__device__ void prefetch_weights(const ThenPointers& then, int n) {
  for (int i = 0; i < then.count; ++i) prefetch_weight(then.weight[i], n);
}

template <int kVectors>
__device__ void norms_then(const ThenPointers& then, const Row<kVectors>& row, int n, float eps,
                           float* scratch) {
  if (then.count == 0) return;
  const float factor = norm_factor(block_sum(row.sum_of_squares(), scratch), n, eps);
  const int64_t first = int64_t{blockIdx.x} * n;
#pragma unroll
  for (int j = 0; j < kMaxNormsThen; ++j) {
    if (j >= then.count) break;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      const int at = column(i);
      if (at >= n) break;
      store(then.out[j] + first + at, scaled(row.v[i], factor, load_weight(then.weight[j], at)));
    }
  }
}

template <typename Shape, typename Out>
__global__ void __launch_bounds__(Shape::kThreads)
    rms_norm_kernel(const float* x, const bf16* weight, int n, float eps, Out* out) {
  constexpr int kVectors = Shape::kVectors;
  __shared__ float scratch[kMaxWarps];
  let_next_kernel_start();
  prefetch_weight(weight, n);
  wait_for_earlier_kernels();
  const int64_t first = int64_t{blockIdx.x} * n;
  Row<kVectors> row;
  row.load(x + first, n);
  const float factor = norm_factor(block_sum(row.sum_of_squares(), scratch), n, eps);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = column(i);
    if (at < n) store(out + first + at, scaled(row.v[i], factor, load_weight(weight, at)));
  }
}

template <typename Shape>
__global__ void __launch_bounds__(Shape::kThreads)
    add_rms_norm_kernel(const float* x, const bf16* weight, int n, float eps, float* residual,
                        ThenPointers then) {
  constexpr int kVectors = Shape::kVectors;
  __shared__ float scratch[kMaxWarps];
  let_next_kernel_start();
  prefetch_weight(weight, n);
  prefetch_weights(then, n);
  wait_for_earlier_kernels();
  const int64_t first = int64_t{blockIdx.x} * n;
  Row<kVectors> row;
  Row<kVectors> sum;
  row.load(x + first, n);
  sum.load(residual + first, n);
  const float factor = norm_factor(block_sum(row.sum_of_squares(), scratch), n, eps);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = column(i);
    if (at >= n) break;
    sum.v[i] = add(sum.v[i], scaled(row.v[i], factor, load_weight(weight, at)));
    store(residual + first + at, sum.v[i]);
  }
  norms_then(then, sum, n, eps, scratch);
}

struct MergePointers {
  const float* dense;
  const float* experts;
  TreeSumBatch leaves;  // of `experts`, or none
  float* residual;
  const bf16* dense_norm;
  const bf16* experts_norm;
  const bf16* post_norm;
  float layer_scalar;
  float eps;
  int n;
  ThenPointers then;
};

template <typename Shape, bool kHasLeaves>
__global__ void __launch_bounds__(Shape::kThreads) merge_ffn_kernel(MergePointers p) {
  constexpr int kVectors = Shape::kVectors;
  BERYL_DYNAMIC_SHARED(float4, nodes);  // [kMaxMergedLeaves - 1, blockDim.x] with leaves
  __shared__ float scratch[kMaxWarps];
  __shared__ float2 pair_scratch[kMaxWarps];
  let_next_kernel_start();
  prefetch_weight(p.dense_norm, p.n);
  prefetch_weight(p.experts_norm, p.n);
  prefetch_weight(p.post_norm, p.n);
  prefetch_weights(p.then, p.n);
  wait_for_earlier_kernels();
  const int n = p.n;
  const int64_t first = int64_t{blockIdx.x} * n;
  Row<kVectors> dense;
  Row<kVectors> experts;
  Row<kVectors> residual;
  dense.load(p.dense + first, n);
  residual.load(p.residual + first, n);
  if constexpr (kHasLeaves) {
    TreeState tree;
    const int leaf = static_cast<int>(blockIdx.x) * p.leaves.leaves_per_row;
    const LeafPlan plan = tree.plan(p.leaves, leaf, leaf + p.leaves.leaves_per_row);
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      OpenNodes open = {nodes + threadIdx.x, static_cast<int>(blockDim.x)};
      if (column(i) < n) open.add_leaves(plan, p.experts + column(i), n);
      experts.v[i] = open.finish();
    }
  } else {
    experts.load(p.experts + first, n);
  }
  const float2 sums =
      block_sum(make_float2(dense.sum_of_squares(), experts.sum_of_squares()), pair_scratch);
  const float dense_factor = norm_factor(sums.x, n, p.eps);
  const float experts_factor = norm_factor(sums.y, n, p.eps);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = column(i);
    if (at >= n) break;
    dense.v[i] = add(scaled(dense.v[i], dense_factor, load_weight(p.dense_norm, at)),
                     scaled(experts.v[i], experts_factor, load_weight(p.experts_norm, at)));
  }
  const float factor = norm_factor(block_sum(dense.sum_of_squares(), scratch), n, p.eps);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = column(i);
    if (at >= n) break;
    const float4 sum = add(residual.v[i], scaled(dense.v[i], factor, load_weight(p.post_norm, at)));
    residual.v[i] = make_float4(sum.x * p.layer_scalar, sum.y * p.layer_scalar,
                                sum.z * p.layer_scalar, sum.w * p.layer_scalar);
    store(p.residual + first + at, residual.v[i]);
  }
  norms_then(p.then, residual, n, p.eps, scratch);
}

const bf16* bf16_or_null(const TensorView& weight) {
  return weight.empty() ? nullptr : reinterpret_cast<const bf16*>(weight.bf16());
}

ThenPointers then_pointers(const NormsThen& then) {
  ThenPointers pointers = {};
  pointers.count = then.count;
  for (int i = 0; i < then.count; ++i) {
    pointers.weight[i] = reinterpret_cast<const bf16*>(then.weight[i]);
    pointers.out[i] = reinterpret_cast<bf16*>(then.out[i]);
  }
  return pointers;
}

// Calls launch(shape, number of threads).
template <typename Launch>
cudaError_t with_shape(int64_t rows, int64_t n, const Launch& launch) {
  const auto call = [&](auto shape) {
    const int64_t per_warp = int64_t{kWarpSize} * 4 * shape.kVectors;
    return launch(shape, static_cast<int>((n + per_warp - 1) / per_warp * kWarpSize));
  };
  if (rows <= kFewRows && n <= FewRows::kMaxWidth) return call(FewRows{});
  if (n <= ManyRows::kMaxWidth) return call(ManyRows{});
  return call(WideRows{});
}

template <typename Out>
cudaError_t launch_norm(const TensorView& x, const TensorView& weight, float eps, Out* out,
                        LaunchStream stream) {
  const auto n = static_cast<int>(x.shape[1]);
  return with_shape(x.shape[0], n, [&](auto shape, int threads) {
    return launch_overlapping_kernel(rms_norm_kernel<decltype(shape), Out>,
                                     static_cast<unsigned>(x.shape[0]), threads, 0, stream, x.f32(),
                                     bf16_or_null(weight), n, eps, out);
  });
}

}  // namespace

cudaError_t launch_rms_norm(const TensorView& x, const TensorView& weight, float eps,
                            const TensorView& out, LaunchStream stream) {
  if (x.shape[0] == 0) return cudaSuccess;
  if (out.dtype == DType::kFloat32) return launch_norm(x, weight, eps, out.f32(), stream);
  return launch_norm(x, weight, eps, out.as<bf16>(), stream);
}

cudaError_t launch_add_rms_norm(const TensorView& x, const TensorView& weight, float eps,
                                const TensorView& residual, const NormsThen& then,
                                LaunchStream stream) {
  if (x.shape[0] == 0) return cudaSuccess;
  const auto n = static_cast<int>(x.shape[1]);
  return with_shape(x.shape[0], n, [&](auto shape, int threads) {
    return launch_overlapping_kernel(
        add_rms_norm_kernel<decltype(shape)>, static_cast<unsigned>(x.shape[0]), threads, 0, stream,
        x.f32(), bf16_or_null(weight), n, eps, residual.f32(), then_pointers(then));
  });
}

cudaError_t launch_merge_ffn(const MergeFfnArgs& args, LaunchStream stream) {
  const int64_t rows = args.dense.shape[0];
  const int64_t n = args.dense.shape[1];
  if (rows == 0) return cudaSuccess;
  const MergePointers pointers = {.dense = args.dense.f32(),
                                  .experts = args.experts.f32(),
                                  .leaves = args.leaves == nullptr ? TreeSumBatch{} : *args.leaves,
                                  .residual = args.residual.f32(),
                                  .dense_norm = bf16_or_null(args.weights.dense_norm),
                                  .experts_norm = bf16_or_null(args.weights.experts_norm),
                                  .post_norm = bf16_or_null(args.weights.post_norm),
                                  .layer_scalar = args.weights.layer_scalar,
                                  .eps = args.eps,
                                  .n = static_cast<int>(n),
                                  .then = then_pointers(args.then)};
  return with_shape(rows, n, [&](auto shape, int threads) {
    using Rows = decltype(shape);
    const bool has_leaves = args.leaves != nullptr;
    const int shared_bytes =
        has_leaves ? (kMaxMergedLeaves - 1) * threads * static_cast<int>(sizeof(float4)) : 0;
    return launch_overlapping_kernel(
        has_leaves ? merge_ffn_kernel<Rows, true> : merge_ffn_kernel<Rows, false>,
        static_cast<unsigned>(rows), threads, shared_bytes, stream, pointers);
  });
}

}  // namespace beryl::kernels::cuda
