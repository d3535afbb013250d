#include <algorithm>

#include "kernels/check.h"
#include "kernels/cuda/attention.h"

namespace beryl::kernels::cuda {
namespace {

constexpr int kMaxPartialFloats = 64 << 20;  // 256 MB of results waiting to be merged
constexpr int kFewQueries = 16;              // two such blocks fit on an SM
constexpr int kMaxWaves = 4;                 // of blocks over the device, when keys are divided
constexpr int kBlockTiles = 1;
constexpr int kMergeTiles = 2;
constexpr int kSplitsOfMergeTile = 16;

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

// Keys between the first and the last that a tile of rows can see.
int most_keys(const AttentionArgs& args) {
  const int all = args.max_position + 1;
  if (args.shape.is_global()) return all;
  return std::min(all, args.shape.window + args.max_segment_rows);
}

// Key tiles that the busiest place of an SM walks over, with what each block costs besides (start,
// results) and what merging costs, counted in key tiles too.
int walked_tiles(int blocks, int places, int key_tiles, int splits) {
  const int waves = ceil_div(blocks * splits, places);
  return waves * (ceil_div(key_tiles, splits) + kBlockTiles) +
         (splits == 1 ? 0 : kMergeTiles + splits / kSplitsOfMergeTile);
}

void divide_keys(const AttentionArgs& args, const DeviceLimits& device, AttentionPass& pass) {
  const int blocks = std::max(1, pass.num_tiles * args.shape.num_kv_heads);
  // The first tile may begin before the first key.
  const int key_tiles = ceil_div(most_keys(args) + kKeyTile - 1, kKeyTile);
  const int64_t floats_per_split =
      int64_t{args.num_rows} * args.shape.num_heads * (args.shape.head_dim + 2);
  const int blocks_of_sm = pass.queries == kFewQueries ? 2 : 1;
  const int places = blocks_of_sm * device.num_sms;
  const auto most = static_cast<int>(
      std::min<int64_t>({kMaxPartialFloats / std::max<int64_t>(floats_per_split, 1), kMaxSplits,
                         key_tiles, std::max(1, kMaxWaves * places / blocks)}));
  pass.num_splits = 1;
  for (int splits = 2; splits <= most; ++splits) {
    if (walked_tiles(blocks, places, key_tiles, splits) <
        walked_tiles(blocks, places, key_tiles, pass.num_splits)) {
      pass.num_splits = splits;
    }
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
                    attention_shared_bytes(is_global, 16) > device.max_shared_bytes;
  if (plan.is_generic || args.num_rows == 0) return plan;
  BERYL_CHECK(args.max_segment_rows > 0 && args.max_position >= 0);
  const auto add = [&](int min_rows, int max_rows, int queries) {
    AttentionPass pass;
    pass.min_rows = min_rows;
    pass.max_rows = max_rows;
    pass.queries = queries;
    pass.num_tiles = most_tiles(args, queries, max_rows);
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
  if (may_have_short) add(1, std::min(kShortSegmentRows, args.max_segment_rows), 16);
  if (!has_long) return plan;
  int queries = 64;
  while (queries > 16 && attention_shared_bytes(is_global, queries) > device.max_shared_bytes) {
    queries /= 2;
  }
  add(kShortSegmentRows + 1, args.max_segment_rows, queries);
  return plan;
}

}  // namespace beryl::kernels::cuda
