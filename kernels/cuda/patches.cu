// What the vision tower does to single patches, a block each: cutting, positions, norms and RoPE of
// attention, pooling. Where the CPU back end sums in float32, so does this, in the same order.
#include "kernels/cuda/patches.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cuda/patch_grid.cuh"

namespace beryl::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kNumWarps = kThreads / kWarpSize;
constexpr int kChannels = 3;
constexpr int kMaxQuarter = kMaxPatchHeadDim / 4;

template <typename Out>
__global__ void __launch_bounds__(kThreads)
    cut_patches_kernel(const uint8_t* pixels, DeviceGrids grids, int patch_size, Out* out) {
  const auto patch = static_cast<int>(blockIdx.x);
  const DeviceGrid grid = grid_of_patch(grids, patch);
  const int index = patch - grid.first_patch;
  const int run = kChannels * patch_size;  // numbers of a patch that lie side by side
  const int patch_dim = run * patch_size;
  const int64_t pitch = int64_t{grid.width} * run;
  const uint8_t* corner = pixels + int64_t{grid.first_patch} * patch_dim +
                          index / grid.width * patch_size * pitch + index % grid.width * run;
  for (int i = static_cast<int>(threadIdx.x); i < patch_dim; i += kThreads) {
    const auto pixel = static_cast<float>(corner[i / run * pitch + i % run]);
    // The roundings of the reference: pixel * (1 / 255) first, then the map to [-1, 1].
    const float centred = __fadd_rn(__fmul_rn(pixel, 1.0f / 255.0f), -0.5f);
    out[int64_t{patch} * patch_dim + i] = from_float<Out>(2.0f * centred);
  }
}

__global__ void __launch_bounds__(kThreads)
    add_patch_positions_kernel(const bf16* table, int length, DeviceGrids grids, int n, float* x) {
  const auto patch = static_cast<int>(blockIdx.x);
  const DeviceGrid grid = grid_of_patch(grids, patch);
  const int index = patch - grid.first_patch;
  const bf16* column = table + int64_t{index % grid.width} * n;
  const bf16* row = table + int64_t{length + index / grid.width} * n;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) {
    x[int64_t{patch} * n + i] += to_float(column[i]) + to_float(row[i]);
  }
}

struct PoolPointers {
  const float* x;
  const bf16* bias;  // null: not standardised
  const bf16* scale;
  float* out;
  float factor;
  int side;
  int n;
};

__global__ void __launch_bounds__(kThreads) pool_patches_kernel(PoolPointers p, DeviceGrids grids) {
  const auto token = static_cast<int>(blockIdx.x);
  const int square = p.side * p.side;
  const DeviceGrid grid = grid_of_patch(grids, token * square);
  const int index = token - grid.first_patch / square;
  const int columns = grid.width / p.side;
  const int64_t corner = int64_t{grid.first_patch} +
                         int64_t{index / columns} * p.side * grid.width + index % columns * p.side;
  for (int i = static_cast<int>(threadIdx.x); i < p.n; i += kThreads) {
    float sum = 0;
    for (int y = 0; y < p.side; ++y) {
      for (int x = 0; x < p.side; ++x) sum += p.x[(corner + y * grid.width + x) * p.n + i];
    }
    sum *= p.factor;
    if (p.bias != nullptr) sum = (sum - to_float(p.bias[i])) * to_float(p.scale[i]);
    p.out[int64_t{token} * p.n + i] = sum;
  }
}

struct InvFreq {
  float value[kMaxQuarter];
};

// Block: a patch. Heads of q, then of k, then of v, a warp each.
__global__ void __launch_bounds__(kThreads)
    patch_inputs_kernel(PatchInputsArgs args, InvFreq inv_freq) {
  __shared__ float cosines[2][kMaxQuarter];  // of the column, of the row
  __shared__ float sines[2][kMaxQuarter];
  __shared__ float heads[kNumWarps][kMaxPatchHeadDim];
  const auto patch = static_cast<int>(blockIdx.x);
  const DeviceGrid grid = grid_of_patch(args.grids, patch);
  const int index = patch - grid.first_patch;
  const int d = args.head_dim;
  const int quarter = d / 4;
  for (int i = static_cast<int>(threadIdx.x); i < 2 * quarter; i += kThreads) {
    const int axis = i / quarter;
    const int position = axis == 0 ? index % grid.width : index / grid.width;
    // The product is rounded to float32, as the reference does.
    const float angle = __fmul_rn(static_cast<float>(position), inv_freq.value[i % quarter]);
    sincosf(angle, &sines[axis][i % quarter], &cosines[axis][i % quarter]);
  }
  __syncthreads();
  float* head = heads[warp_idx()];
  const int64_t num_results = int64_t{args.grids.num_patches} * args.num_heads * d;
  for (int unit = warp_idx(); unit < 3 * args.num_heads; unit += kNumWarps) {
    const int kind = unit / args.num_heads;  // q, k, v
    const int64_t at = (int64_t{patch} * args.num_heads + unit % args.num_heads) * d;
    const uint16_t* norm = kind == 0 ? args.q_norm : kind == 1 ? args.k_norm : nullptr;
    norm_head(args.projected + kind * num_results + at, reinterpret_cast<const bf16*>(norm), d,
              args.rms_norm_eps, head);
    bf16* to = reinterpret_cast<bf16*>(args.results[kind]) + at;
    for (int i = lane_idx(); i < d; i += kWarpSize) {
      const int axis = i / (2 * quarter);
      const int j = i % quarter;
      const bool is_first = i % (2 * quarter) < quarter;
      const float partner = head[is_first ? i + quarter : i - quarter];
      const float turned =
          head[i] * cosines[axis][j] + (is_first ? -partner : partner) * sines[axis][j];
      to[i] = from_float<bf16>(kind == 2 ? head[i] : turned);
    }
    __syncwarp();  // the head has been read
  }
}

const bf16* bf16_or_null(const TensorView& vector) {
  return vector.empty() ? nullptr : reinterpret_cast<const bf16*>(vector.bf16());
}

}  // namespace

cudaError_t launch_cut_patches(const uint8_t* pixels, const DeviceGrids& grids, int patch_size,
                               const TensorView& out, cudaStream_t stream) {
  if (grids.num_patches == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>(grids.num_patches);
  if (out.dtype == DType::kBFloat16) {
    return launch_kernel(cut_patches_kernel<bf16>, blocks, kThreads, 0, stream, pixels, grids,
                         patch_size, out.as<bf16>());
  }
  return launch_kernel(cut_patches_kernel<float>, blocks, kThreads, 0, stream, pixels, grids,
                       patch_size, out.f32());
}

cudaError_t launch_add_patch_positions(const TensorView& table, const DeviceGrids& grids,
                                       const TensorView& x, cudaStream_t stream) {
  if (grids.num_patches == 0) return cudaSuccess;
  return launch_kernel(add_patch_positions_kernel, static_cast<unsigned>(grids.num_patches),
                       kThreads, 0, stream, bf16_or_null(table), static_cast<int>(table.shape[1]),
                       grids, static_cast<int>(table.shape[2]), x.f32());
}

cudaError_t launch_pool_patches(const PatchPooling& pooling, const DeviceGrids& grids,
                                const TensorView& x, const TensorView& out, cudaStream_t stream) {
  const int square = pooling.kernel_size * pooling.kernel_size;
  if (grids.num_patches == 0) return cudaSuccess;
  const PoolPointers pointers = {x.f32(),
                                 bf16_or_null(pooling.std_bias),
                                 bf16_or_null(pooling.std_scale),
                                 out.f32(),
                                 static_cast<float>(static_cast<double>(pooling.scale) / square),
                                 pooling.kernel_size,
                                 static_cast<int>(x.shape[1])};
  return launch_kernel(pool_patches_kernel, static_cast<unsigned>(grids.num_patches / square),
                       kThreads, 0, stream, pointers, grids);
}

cudaError_t launch_patch_inputs(const PatchInputsArgs& args, cudaStream_t stream) {
  if (args.grids.num_patches == 0) return cudaSuccess;
  BERYL_CHECK(args.head_dim <= kMaxPatchHeadDim && args.head_dim % 4 == 0);
  InvFreq inv_freq = {};
  std::copy_n(args.inv_freq, args.head_dim / 4, inv_freq.value);
  return launch_kernel(patch_inputs_kernel, static_cast<unsigned>(args.grids.num_patches), kThreads,
                       0, stream, args, inv_freq);
}

}  // namespace beryl::kernels::cuda
