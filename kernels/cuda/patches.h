// Launchers of the vision tower (kernels/vision.h). P = patches of all pictures of a call.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/ops.h"

namespace beryl::kernels::cuda {

constexpr int kMaxPatchHeadDim = 256;
constexpr int kPatchTileHeadDim = 72;  // of the tensor core kernel: the published tower
constexpr int kPatchQueries = 128;     // patches of a block of the tensor core kernel

// A picture on the device. Its patches are rows [first_patch, first_patch + height * width).
struct DeviceGrid {
  int32_t first_patch = 0;
  int32_t first_tile = 0;  // of kPatchQueries patches; a tile belongs to one picture
  int32_t height = 0;      // patches
  int32_t width = 0;
};

struct DeviceGrids {
  const DeviceGrid* grids = nullptr;  // [num_images], device memory
  int num_images = 0;
  int num_patches = 0;
  int num_tiles = 0;
};

// pixels: all pictures, one behind the other. out [P, 3 * patch_size^2], float32 or bf16.
cudaError_t launch_cut_patches(const uint8_t* pixels, const DeviceGrids& grids, int patch_size,
                               const TensorView& out, cudaStream_t stream);

// x [P, H] float32 += table[0][column] + table[1][row].
cudaError_t launch_add_patch_positions(const TensorView& table, const DeviceGrids& grids,
                                       const TensorView& x, cudaStream_t stream);

// out [P / kernel_size^2, H] from x [P, H], float32.
cudaError_t launch_pool_patches(const PatchPooling& pooling, const DeviceGrids& grids,
                                const TensorView& x, const TensorView& out, cudaStream_t stream);

// Norms and RoPE after the projections.
struct PatchInputsArgs {
  DeviceGrids grids;
  int num_heads = 0;
  int head_dim = 0;  // at most kMaxPatchHeadDim
  float rms_norm_eps = 0;
  const float* inv_freq = nullptr;   // host: [head_dim / 4]
  const uint16_t* q_norm = nullptr;  // bf16 [head_dim]
  const uint16_t* k_norm = nullptr;  // bf16 [head_dim]
  const float* projected = nullptr;  // q, k and v, each [P, num_heads, head_dim]
  uint16_t* results[3] = {};         // the same as bf16
};
cudaError_t launch_patch_inputs(const PatchInputsArgs& args, cudaStream_t stream);

struct PatchAttentionArgs {
  DeviceGrids grids;
  int num_heads = 0;
  int head_dim = 0;
  const uint16_t* q = nullptr;  // bf16 [P, num_heads, head_dim]
  const uint16_t* k = nullptr;
  const uint16_t* v = nullptr;
  uint16_t* out = nullptr;
};
// Heads of kPatchTileHeadDim numbers.
cudaError_t launch_tile_patch_attention(const PatchAttentionArgs& args, cudaStream_t stream);
// Heads of up to kMaxPatchHeadDim numbers; slow.
cudaError_t launch_generic_patch_attention(const PatchAttentionArgs& args, cudaStream_t stream);

}  // namespace beryl::kernels::cuda
