#include "tests/kernels/cuda/hopper_probe.h"

#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/primitives.cuh"
#include "kernels/cuda/tensor_map.h"

namespace beryl::kernels::cuda {
namespace {

constexpr uint32_t kTileA = 1024;
constexpr uint32_t kTileB = kTileA + kProbeRows * kSwizzleRowBytes;
constexpr int kSharedBytes = static_cast<int>(kTileB) + kProbeMaxCols * kSwizzleRowBytes + 1024;
// With b transposed: 64 columns of all k.
constexpr uint32_t kBlockBytes = kProbeDepth * kSwizzleRowBytes;

// Rows of 64 numbers, `stride` numbers apart, into the swizzled tile at `to`.
__device__ void copy_rows(uint32_t to, const bf16* from, int64_t stride, int num_rows) {
  for (int i = static_cast<int>(threadIdx.x); i < num_rows * 8; i += kWarpgroupThreads) {
    copy_async(to + swizzled_offset(i / 8, i % 8), from + i / 8 * stride + i % 8 * 8, true);
  }
}

// Waits for them and lets wgmma see them.
__device__ void finish_copies() {
  commit_copies();
  wait_copies<0>();
  fence_async_proxy();
  __syncthreads();
}

template <int kCols>
__device__ void bring_b(const HopperProbe& probe, uint32_t tile, uint32_t barrier,
                        const CUtensorMap& map, int round) {
  constexpr int kBlocks = (kCols + kSwizzleRowNumbers - 1) / kSwizzleRowNumbers;
  const auto* b = reinterpret_cast<const bf16*>(probe.b);
  if (!probe.uses_tensor_copies) {
    if (!probe.b_is_transposed) copy_rows(tile, b, kProbeDepth, kCols);
    for (int i = 0; probe.b_is_transposed && i < kBlocks; ++i) {
      copy_rows(tile + static_cast<uint32_t>(i) * kBlockBytes, b + i * kSwizzleRowNumbers, kCols,
                kProbeDepth);
    }
    return;
  }
  if (threadIdx.x == 0) {
    const int num_rows = probe.b_is_transposed ? kBlocks * kProbeDepth : kCols;
    arrive_expecting(barrier, static_cast<uint32_t>(num_rows * kSwizzleRowBytes));
    if (!probe.b_is_transposed) copy_tensor(tile, map, barrier, 0, 0);
    for (int i = 0; probe.b_is_transposed && i < kBlocks; ++i) {
      copy_tensor(tile + static_cast<uint32_t>(i) * kBlockBytes, map, barrier,
                  i * kSwizzleRowNumbers, 0);
    }
  }
  if (!probe.skips_a_wait) wait_barrier(barrier, static_cast<uint32_t>(round & 1));
}

template <int kCols, bool kTransposed, bool kInRegisters>
__device__ void multiply(uint32_t tile_a, uint32_t tile_b, float (&sums)[kCols / 2]) {
  constexpr int kSteps = kProbeDepth / 16;
  uint32_t a[kSteps][4];
  for (int step = 0; kInRegisters && step < kSteps; ++step) {
    const int row = warp_idx() * 16 + (lane_idx() & 15);
    load_matrices(a[step], tile_a + swizzled_offset(row, step * 2 + (lane_idx() >> 4)));
  }
  fence_result(sums);
  fence_wgmma();
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const uint64_t b =
        kTransposed
            ? column_major_operand(tile_b + static_cast<uint32_t>(step) * 16 * 128, kBlockBytes)
            : k_major_operand(tile_b + static_cast<uint32_t>(step) * 32);
    if constexpr (kInRegisters) {
      wgmma<kCols, kTransposed>(sums, a[step], b, true);
    } else {
      wgmma<kCols, kTransposed>(sums, k_major_operand(tile_a + static_cast<uint32_t>(step) * 32), b,
                                true);
    }
  }
  commit_wgmma();
  wait_wgmma<0>();
  fence_result(sums);
}

template <int kCols, bool kTransposed, bool kInRegisters>
__global__ void __launch_bounds__(kWarpgroupThreads, 1)
    probe_kernel(HopperProbe probe, const __grid_constant__ CUtensorMap map) {
  BERYL_DYNAMIC_SHARED(unsigned char, shared);
  const uint32_t base = (shared_address(shared) + 1023) / 1024 * 1024;
  if (threadIdx.x == 0) {
    init_barrier(base, 1);
    publish_barriers();
  }
  __syncthreads();
  float sums[kCols / 2] = {};
  for (int round = 0; round < probe.num_rounds; ++round) {
    copy_rows(base + kTileA, reinterpret_cast<const bf16*>(probe.a), kProbeDepth, kProbeRows);
    bring_b<kCols>(probe, base + kTileB, base, map, round);
    finish_copies();
    multiply<kCols, kTransposed, kInRegisters>(base + kTileA, base + kTileB, sums);
    __syncthreads();
  }
  if (probe.skips_a_wait) wait_barrier(base, 0);
  for (int i = 0; i < kCols / 2; ++i) {
    const int row = warp_idx() * 16 + lane_idx() / 4 + i / 2 % 2 * 8;
    const int col = i / 4 * 8 + lane_idx() % 4 * 2 + i % 2;
    probe.out[row * kCols + col] = sums[i];
  }
}

template <int kCols>
cudaError_t launch(const HopperProbe& probe, cudaStream_t stream) {
  CUtensorMap map;
  const cudaError_t error =
      probe.b_is_transposed
          ? make_tensor_map(map, probe.b,
                            {{kCols, 1, kSwizzleRowNumbers}, {kProbeDepth, kCols, kProbeDepth}})
          : make_tensor_map(map, probe.b,
                            {{kProbeDepth, 1, kProbeDepth}, {kCols, kProbeDepth, kCols}});
  if (error != cudaSuccess) return error;
  const auto kernel = probe.b_is_transposed     ? probe.a_is_in_registers
                                                      ? probe_kernel<kCols, true, true>
                                                      : probe_kernel<kCols, true, false>
                          : probe.a_is_in_registers ? probe_kernel<kCols, false, true>
                                                : probe_kernel<kCols, false, false>;
  return launch_kernel(kernel, dim3(1), kWarpgroupThreads, kSharedBytes, stream, probe, map);
}

}  // namespace

cudaError_t launch_hopper_probe(const HopperProbe& probe, cudaStream_t stream) {
  switch (probe.num_cols) {
    case 8:
      return launch<8>(probe, stream);
    case 64:
      return launch<64>(probe, stream);
    case 72:
      return launch<72>(probe, stream);
    case 256:
      return launch<256>(probe, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace beryl::kernels::cuda
