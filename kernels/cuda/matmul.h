// Products of bf16 rows with bf16 weights, float32 accumulation: out = x * weight^T. Three kernels:
//   skinny: few rows a weight; streams weights from memory into tensor core registers, 16 columns a
//           block, K divided over the warps of the block
//   tile:   many rows; 64 or 128 x 128 tiles through shared memory
//   warpgroup: many rows grouped by expert, on devices with wgmma
// Rows are dense or grouped by expert, with sizes that only the device knows.
//
// Descriptor (MatmulArgs) -> plan (plan_matmul: which kernel, which tile) -> launcher.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/launch_stream.h"

namespace beryl::kernels::cuda {

constexpr int64_t kMatmulDepthUnit = 8;  // K is a multiple: loads are 16 bytes
constexpr int kMaxMatmulJobs = 3;

enum class Epilogue {
  kStore,      // out float32 [rows, num_cols]; cap > 0: cap * tanh(out / cap)
  kStoreBf16,  // out bf16 [rows, num_cols]
  kGelu,       // out bf16 [rows, num_cols] = gelu_tanh(x * gate^T) * (x * up^T)
};

// Columns of the result: `weight` [num_cols, k]; with kGelu gate, and `up` the same shape.
struct MatmulJob {
  const uint16_t* weight = nullptr;
  const uint16_t* up = nullptr;
  void* out = nullptr;
  int num_cols = 0;
};

struct MatmulArgs {
  const uint16_t* x = nullptr;  // [*, k] bf16, 16-byte aligned
  int k = 0;
  int num_rows = 0;  // dense: rows; grouped: most rows of all groups together
  Epilogue epilogue = Epilogue::kStore;
  float cap = 0;
  int num_jobs = 1;  // on the same rows; grouped: 1
  MatmulJob jobs[kMaxMatmulJobs];

  // Grouped: rows [offsets[e], offsets[e + 1]) belong to expert e, whose weights are
  // weight_stride numbers after those of the expert before.
  int num_groups = 0;  // 0: dense
  const int32_t* offsets = nullptr;
  int64_t weight_stride = 0;
  const int32_t* row_idx = nullptr;  // [num_rows] row of x, or null: the row itself
  const float* row_scale = nullptr;  // [num_rows] factor of each result row (kStore), or null

  int warpgroup_sms = 0;  // multiprocessors of a device with wgmma; 0: without
};

struct MatmulPlan {
  enum class Kernel { kSkinny, kTile, kWarpgroup };
  Kernel kernel = Kernel::kSkinny;
  int tile_rows = 8;      // skinny: 8, 16, 32; tile: 64, 128; warpgroup: 192, 256
  int num_row_tiles = 0;  // blocks along rows, enough for every division into groups
};

// From shapes alone. Host function without CUDA calls.
MatmulPlan plan_matmul(const MatmulArgs& args);

// Most rows of a dense product that the skinny kernel takes.
constexpr int kMaxSkinnyRows = 32;

cudaError_t launch_skinny(const MatmulArgs& args, const MatmulPlan& plan, LaunchStream stream);
cudaError_t launch_tile(const MatmulArgs& args, const MatmulPlan& plan, LaunchStream stream);
cudaError_t launch_warpgroup(const MatmulArgs& args, const MatmulPlan& plan, LaunchStream stream);
// Checks the arguments, plans and launches.
cudaError_t launch_matmul(const MatmulArgs& args, LaunchStream stream);

}  // namespace beryl::kernels::cuda
