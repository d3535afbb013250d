// Attention over the paged bf16 cache, for decode and prefill.
//
//   tensor core kernel: head size 256 with separate K and V, or 512 + 128 with one tile for both
//     (the published shapes). 16, 32 or 64 queries a block, keys in tiles of 32, optionally divided
//     into splits whose results merge in order.
//   wgmma kernels (sm_90a): the same shapes, segments of more than 16 rows. Blocks of 64 (global)
//   or
//     128 queries (sliding).
//   generic kernel: any head size up to 512, a warp per row and head; slow. For small models, and
//     what tests compare the other one with.
//
// Descriptor (AttentionArgs) -> plan (plan_attention, host only) -> launcher.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/cache_view.h"
#include "kernels/cuda/device_limits.h"
#include "kernels/cuda/launch_stream.h"
#include "kernels/ops.h"

namespace beryl::kernels::cuda {

constexpr int kKeyTile = 32;
constexpr int kMaxSplits = 512;
constexpr int kCopiedKeys = 16;        // cache blocks of a multiple are needed by the wgmma kernels
constexpr int kShortSegmentRows = 16;  // segments up to this are computed like decode rows

struct AttentionArgs {
  AttentionShape shape;
  CacheView cache;
  const uint16_t* q = nullptr;               // bf16 [T, num_heads, head_dim]
  uint16_t* out = nullptr;                   // bf16 [T, num_heads, head_dim]
  const int32_t* positions = nullptr;        // [T]
  const int32_t* query_start_loc = nullptr;  // [S + 1]
  const int32_t* row_segments = nullptr;     // [T]
  const int32_t* visible_end = nullptr;      // [T] or null
  int num_rows = 0;
  int num_segments = 0;
  int max_segment_rows = 0;
  int max_position = 0;
};

// One launch: segments of [min_rows, max_rows] rows, in tiles of `queries` queries.
struct AttentionPass {
  int min_rows = 1;
  int max_rows = 0;
  bool has_wgmma = false;
  bool is_deep = false;  // of 16 queries: one block an SM, with more key tiles under way
  int queries = 16;      // of a block: 16, 32 or 64; with wgmma 64 or 128
  int num_tiles = 0;     // blocks along rows, enough for every division into segments
  int num_splits = 1;    // parts that the keys of each tile are divided into
};

struct AttentionPlan {
  bool is_generic = false;
  int num_passes = 0;
  AttentionPass passes[2];
  int64_t partial_floats = 0;  // work space of the largest pass
};

// From shapes and counts alone. Host function without CUDA calls.
AttentionPlan plan_attention(const AttentionArgs& args, const DeviceLimits& device);

// Shared memory of a block of the tensor core kernel, and of the wgmma kernels.
int tile_attention_shared_bytes(bool is_global, const AttentionPass& pass);
int global_wgmma_shared_bytes();
int sliding_wgmma_shared_bytes();

// Results of splits: sums of exp(score - top) * value, and of exp(score - top); top is -infinity
// where a split has no key, and there are no sums then.
struct AttentionPartials {
  float* sums = nullptr;        // [num_splits, T, num_heads, head_dim]
  float2* top_total = nullptr;  // [num_splits, T, num_heads]
};
inline AttentionPartials split_partials(const AttentionArgs& args, const AttentionPass& pass,
                                        float* partials) {
  if (pass.num_splits == 1) return {};
  const int64_t results = int64_t{pass.num_splits} * args.num_rows * args.shape.num_heads;
  return {partials, reinterpret_cast<float2*>(partials + results * args.shape.head_dim)};
}

// `partials` holds plan.partial_floats.
cudaError_t launch_attention(const AttentionArgs& args, const AttentionPlan& plan, float* partials,
                             LaunchStream stream);
// One pass. Results of splits go to `partials`.
cudaError_t launch_tile_attention(const AttentionArgs& args, const AttentionPass& pass,
                                  const AttentionPartials& partials, LaunchStream stream);
cudaError_t launch_global_wgmma_attention(const AttentionArgs& args, const AttentionPass& pass,
                                          const AttentionPartials& partials, LaunchStream stream);
cudaError_t launch_sliding_wgmma_attention(const AttentionArgs& args, const AttentionPass& pass,
                                           const AttentionPartials& partials, LaunchStream stream);
// Adds the splits of a pass in order.
cudaError_t launch_merge_splits(const AttentionArgs& args, const AttentionPass& pass,
                                const AttentionPartials& partials, LaunchStream stream);
cudaError_t launch_generic_attention(const AttentionArgs& args, LaunchStream stream);

}  // namespace beryl::kernels::cuda
