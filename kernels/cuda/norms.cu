// A block a row, which it holds in registers: thread t has vectors t, t + blockDim.x, ... of four
// numbers. Few rows: as many threads as vectors, so that each waits for memory once.
#include "kernels/cuda/norms.h"

#include "kernels/cuda/sum_tree.cuh"

namespace beryl::kernels::cuda {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int kMaxWarps = kMaxThreads / kWarpSize;
constexpr int kManyVectors = 3;  // of a thread; kMaxNormWidth fits kMaxThreads
constexpr int kFewRows = 264;    // two blocks for each multiprocessor of an H100
static_assert(kMaxNormWidth == int64_t{kMaxThreads} * kManyVectors * 4);

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

template <int kVectors, typename Out>
__global__ void __launch_bounds__(kMaxThreads)
    rms_norm_kernel(const float* x, const bf16* weight, int n, float eps, Out* out) {
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

template <int kVectors>
__global__ void __launch_bounds__(kMaxThreads)
    add_rms_norm_kernel(const float* x, const bf16* weight, int n, float eps, float* residual,
                        ThenPointers then) {
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

template <int kVectors, bool kHasLeaves>
__global__ void __launch_bounds__(kMaxThreads) merge_ffn_kernel(MergePointers p) {
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
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      experts.v[i] = make_float4(0, 0, 0, 0);
      if (column(i) >= n) break;
      experts.v[i] = sum_leaves(p.experts, p.leaves, static_cast<int>(blockIdx.x), n, column(i),
                                nodes + threadIdx.x, static_cast<int>(blockDim.x));
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

// Vectors of a thread: one, while that many threads fit a block and rows are few.
bool has_one_vector(int64_t rows, int64_t n) {
  return rows <= kFewRows && n <= int64_t{kMaxThreads} * 4;
}

int threads_for(int64_t n, int vectors) {
  const int64_t per_warp = int64_t{kWarpSize} * 4 * vectors;
  return static_cast<int>((n + per_warp - 1) / per_warp * kWarpSize);
}

template <typename Out>
cudaError_t launch_norm(const TensorView& x, const TensorView& weight, float eps, Out* out,
                        LaunchStream stream) {
  const bool is_one = has_one_vector(x.shape[0], x.shape[1]);
  return launch_overlapping_kernel(
      is_one ? rms_norm_kernel<1, Out> : rms_norm_kernel<kManyVectors, Out>,
      static_cast<unsigned>(x.shape[0]), threads_for(x.shape[1], is_one ? 1 : kManyVectors), 0,
      stream, x.f32(), bf16_or_null(weight), static_cast<int>(x.shape[1]), eps, out);
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
  const bool is_one = has_one_vector(x.shape[0], x.shape[1]);
  return launch_overlapping_kernel(
      is_one ? add_rms_norm_kernel<1> : add_rms_norm_kernel<kManyVectors>,
      static_cast<unsigned>(x.shape[0]), threads_for(x.shape[1], is_one ? 1 : kManyVectors), 0,
      stream, x.f32(), bf16_or_null(weight), static_cast<int>(x.shape[1]), eps, residual.f32(),
      then_pointers(then));
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
  const bool is_one = has_one_vector(rows, n);
  const int threads = threads_for(n, is_one ? 1 : kManyVectors);
  const bool has_leaves = args.leaves != nullptr;
  const auto kernel = is_one ? has_leaves ? merge_ffn_kernel<1, true> : merge_ffn_kernel<1, false>
                      : has_leaves ? merge_ffn_kernel<kManyVectors, true>
                                   : merge_ffn_kernel<kManyVectors, false>;
  const int shared_bytes =
      has_leaves ? (kMaxMergedLeaves - 1) * threads * static_cast<int>(sizeof(float4)) : 0;
  return launch_overlapping_kernel(kernel, static_cast<unsigned>(rows), threads, shared_bytes,
                                   stream, pointers);
}

}  // namespace beryl::kernels::cuda
