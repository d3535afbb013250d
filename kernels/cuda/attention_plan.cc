#include <algorithm>

#include "kernels/check.h"
#include "kernels/cuda/attention.h"

namespace beryl::kernels::cuda {
namespace {

constexpr int kMaxPartialFloats = 64 << 20;  // 256 MB of results waiting to be merged
constexpr int kFewQueries = 16;              // two such blocks fit on an SM
constexpr int kMaxWaves = 4;                 // of blocks over the device, when keys are divided

int ceil_div(int a, int b) {
  return (a + b - 1) / b;
}

bool has_tensor_core_shape(const AttentionShape& shape) {
  if (shape.num_heads % shape.num_kv_heads != 0) return false;
  const int group = shape.num_heads / shape.num_kv_heads;
  if (group > 16) return false;
  return shape.is_global() ? shape.head_dim == 512 && shape.rotary_dim == 128
                           : shape.head_dim == 256 && shape.rotary_dim == 256;
}

bool fits_wgmma(const AttentionArgs& args, const DeviceLimits& device) {
  const AttentionShape& shape = args.shape;
  const int bytes = shape.is_global() ? global_wgmma_shared_bytes() : sliding_wgmma_shared_bytes();
  return device.has_wgmma && bytes <= device.max_shared_bytes &&
         args.cache.block_size % kCopiedKeys == 0;
}

// Keys between the first and the last that a tile of rows sees, spans of pictures left out.
int most_keys(const AttentionArgs& args, const AttentionPass& pass) {
  const int all = args.max_position + 1;
  if (args.shape.is_global()) return all;
  const int rows = pass.queries / (args.shape.num_heads / args.shape.num_kv_heads);
  return std::min(all, args.shape.window + std::min(rows, pass.max_rows) - 1);
}

// About how long a pass takes on an H100, to choose among numbers of splits.
struct PassTime {
  static constexpr double kTileUs = 1.0;        // of 32 keys, for a block that has an SM alone
  static constexpr double kBytesPerUs = 3.0e6;  // of the device
  static constexpr double kBlockUs = 3.0;       // start and end of a block
  static constexpr double kMergeUs = 2.5;       // start and end of merging
  static constexpr double kMergeBytesPerUs = 2.5e6;
  static constexpr double kMergeSplitUs = 0.02;  // and for each split

  int blocks;          // without splits
  int places;          // blocks that run at a time
  int key_tiles;       // of a block
  double split_bytes;  // written and read for each split

  double us(int splits) const {
    const int waves = ceil_div(blocks * splits, places);
    const int tiles = ceil_div(key_tiles, splits);
    const double merging =
        splits == 1 ? 0 : kMergeUs + splits * (kMergeSplitUs + split_bytes / kMergeBytesPerUs);
    return waves * (tiles * kTileUs + kBlockUs) + merging;
  }
};

void divide_keys(const AttentionArgs& args, const DeviceLimits& device, AttentionPass& pass) {
  const int blocks = std::max(1, pass.num_tiles * args.shape.num_kv_heads);
  const int key_tiles = ceil_div(most_keys(args, pass), kKeyTile);
  const int64_t floats_per_split =
      int64_t{args.num_rows} * args.shape.num_heads * (args.shape.head_dim + 2);
  const int blocks_of_sm = pass.queries == kFewQueries && !pass.is_deep ? 2 : 1;
  const PassTime time = {blocks, blocks_of_sm * device.num_sms, key_tiles,
                         2.0 * sizeof(float) * static_cast<double>(floats_per_split)};
  const auto most = static_cast<int>(
      std::min<int64_t>({kMaxPartialFloats / std::max<int64_t>(floats_per_split, 1), kMaxSplits,
                         key_tiles, std::max(1, kMaxWaves * time.places / blocks)}));
  pass.num_splits = 1;
  for (int splits = 2; splits <= most; ++splits) {
    if (time.us(splits) < time.us(pass.num_splits)) pass.num_splits = splits;
  }
}

// Rows lie in at most num_segments groups of at most max_rows, each of which may leave one tile
// unfilled.
int most_tiles(const AttentionArgs& args, int queries, int max_rows) {
  const int group = args.shape.num_heads / args.shape.num_kv_heads;
  const int rows_per_tile = queries / group;
  const int segments = std::min(args.num_segments, args.num_rows);
  return std::min(segments * ceil_div(max_rows, rows_per_tile),
                  segments + (args.num_rows - segments) / rows_per_tile);
}

}  // namespace

AttentionPlan plan_attention(const AttentionArgs& args, const DeviceLimits& device) {
  AttentionPlan plan;
  const bool is_global = args.shape.is_global();
  plan.is_generic = !has_tensor_core_shape(args.shape) ||
                    tile_attention_shared_bytes(is_global, {}) > device.max_shared_bytes;
  if (plan.is_generic || args.num_rows == 0) return plan;
  BERYL_CHECK(args.max_segment_rows > 0 && args.max_position >= 0);
  const auto fits = [&](const AttentionPass& pass) {
    return tile_attention_shared_bytes(is_global, pass) <= device.max_shared_bytes;
  };
  const auto add = [&](AttentionPass pass) {
    pass.num_tiles = most_tiles(args, pass.queries, pass.max_rows);
    divide_keys(args, device, pass);
    plan.passes[plan.num_passes++] = pass;
    if (pass.num_splits == 1) return;
    plan.partial_floats =
        std::max(plan.partial_floats, int64_t{pass.num_splits} * args.num_rows *
                                          args.shape.num_heads * (args.shape.head_dim + 2));
  };
  const bool has_long = args.max_segment_rows > kShortSegmentRows;
  // Segments between may all be long; then the first pass finds no tile and costs a few µs.
  const bool may_have_short = !has_long || args.num_segments > 1;
  if (may_have_short) {
    AttentionPass pass;
    pass.max_rows = std::min(kShortSegmentRows, args.max_segment_rows);
    pass.queries = kFewQueries;
    AttentionPass deep = pass;
    deep.is_deep = true;
    const int blocks = most_tiles(args, pass.queries, pass.max_rows) * args.shape.num_kv_heads;
    // Where undivided keys give every SM its block; two smaller blocks an SM do better otherwise.
    const bool fills = blocks <= device.num_sms && blocks >= device.num_sms * 3 / 4;
    add(fills && fits(deep) ? deep : pass);
  }
  if (!has_long) return plan;
  AttentionPass pass;
  pass.min_rows = kShortSegmentRows + 1;
  pass.max_rows = args.max_segment_rows;
  pass.has_wgmma = fits_wgmma(args, device);
  if (pass.has_wgmma) {
    pass.queries = is_global ? 64 : 128;
  } else {
    pass.queries = 64;
    while (pass.queries > kFewQueries && !fits(pass)) pass.queries /= 2;
  }
  add(pass);
  return plan;
}

cudaError_t launch_attention(const AttentionArgs& args, const AttentionPlan& plan, float* partials,
                             LaunchStream stream) {
  if (args.num_rows == 0) return cudaSuccess;
  if (plan.is_generic) return launch_generic_attention(args, stream);
  for (int i = 0; i < plan.num_passes; ++i) {
    const AttentionPass& pass = plan.passes[i];
    const AttentionPartials splits = split_partials(args, pass, partials);
    const auto launch = !pass.has_wgmma          ? launch_tile_attention
                        : args.shape.is_global() ? launch_global_wgmma_attention
                                                 : launch_sliding_wgmma_attention;
    cudaError_t error = launch(args, pass, splits, stream);
    if (error == cudaSuccess && pass.num_splits > 1) {
      error = launch_merge_splits(args, pass, splits, stream);
    }
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace beryl::kernels::cuda
