// Products of bf16 rows with bf16 weights, float32 accumulation: out = x * weight^T. Three kernels:
//   skinny: few rows a weight; each block streams its share of the weight rows through a ring of
//           stages in shared memory
//   tile:   many rows; 64 or 128 x 128 tiles through shared memory
//   warpgroup: many rows grouped by expert, on devices with wgmma
// Rows are dense or grouped by expert, with sizes that only the device knows.
//
// Descriptor (MatmulArgs) -> plan (plan_matmul: which kernel, which tile) -> launcher.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/device_limits.h"
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
  // The kernel before in the stream is a skinny one with these offsets: they can be read ahead of
  // the wait for it.
  bool offsets_are_settled = false;
  int64_t weight_stride = 0;
  const int32_t* row_idx = nullptr;  // [num_rows] row of x, or null: the row itself
  const float* row_scale = nullptr;  // [num_rows] factor of each result row (kStore), or null
};

struct MatmulPlan {
  enum class Kernel { kSkinny, kTile, kWarpgroup };
  Kernel kernel = Kernel::kSkinny;
  int tile_rows = 8;      // skinny: kSkinnyShapes; tile: 64, 128; warpgroup: 192, 256
  int num_row_tiles = 0;  // blocks along rows, enough for every division
  int num_blocks = 0;     // skinny, warpgroup
  int weight_rows = 64;   // skinny: of a stage
};

// From shapes alone. Host function without CUDA calls.
MatmulPlan plan_matmul(const MatmulArgs& args, const DeviceLimits& device);

// Most rows of a dense product that the skinny kernel takes; more go to cuBLASLt or tiles.
int max_skinny_rows(const MatmulArgs& args);

// Weight rows and rows of x of a stage: what the skinny kernel is compiled for.
struct SkinnyShape {
  int weight_rows;
  int tile_rows;
};
constexpr SkinnyShape kSkinnyShapes[] = {{16, 8}, {16, 16}, {32, 8},  {32, 32}, {32, 64},
                                         {64, 8}, {64, 16}, {64, 32}, {64, 64}, {128, 64}};

// The ring of the skinny kernel. k of a stage: 64 for each of the warps along k, of which there are
// fewer the more lie along rows.
constexpr int skinny_depth(int weight_rows) {
  return weight_rows >= 128 ? 64 : 64 * 128 / weight_rows;
}
constexpr int skinny_stage_bytes(int weight_rows, int tile_rows) {
  return (weight_rows + tile_rows) * skinny_depth(weight_rows) * 2;
}
// Where sums of warps along k meet.
constexpr int skinny_partial_bytes(int weight_rows, int tile_rows) {
  return weight_rows >= 128 ? 0 : 128 / weight_rows * tile_rows * (weight_rows + 1) * 4;
}
constexpr int skinny_stages(int weight_rows, int tile_rows) {
  // Two blocks an SM of 228 KB, one where that leaves too little a block.
  constexpr int kMostStages = 6;
  constexpr int kHalf = 110 << 10;
  constexpr int kAll = 220 << 10;
  const int stage = skinny_stage_bytes(weight_rows, tile_rows);
  const int partial = skinny_partial_bytes(weight_rows, tile_rows);
  const int stages =
      (kHalf - partial) / stage >= 3 ? (kHalf - partial) / stage : (kAll - partial) / stage;
  return stages < kMostStages ? stages : kMostStages;
}
constexpr int skinny_ring_bytes(int weight_rows, int tile_rows) {
  return skinny_stages(weight_rows, tile_rows) * skinny_stage_bytes(weight_rows, tile_rows) +
         skinny_partial_bytes(weight_rows, tile_rows);
}
// Shared memory of a block of the skinny kernel.
inline int skinny_shared_bytes(const MatmulArgs& args, const MatmulPlan& plan) {
  return skinny_ring_bytes(plan.weight_rows, plan.tile_rows) + (args.num_groups + 1) * 4;
}

cudaError_t launch_skinny(const MatmulArgs& args, const MatmulPlan& plan, LaunchStream stream);
cudaError_t launch_tile(const MatmulArgs& args, const MatmulPlan& plan, LaunchStream stream);
cudaError_t launch_warpgroup(const MatmulArgs& args, const MatmulPlan& plan, LaunchStream stream);
// Checks the arguments, plans and launches.
cudaError_t launch_matmul(const MatmulArgs& args, const DeviceLimits& device, LaunchStream stream);

}  // namespace beryl::kernels::cuda
