#include <algorithm>

#include "kernels/check.h"
#include "kernels/cuda/attention.h"

namespace beryl::kernels::cuda {
namespace {

constexpr int kMaxPartialFloats = 64 << 20;  // 256 MB of results waiting to be merged
constexpr int kMinSplitKeys = 4 * kKeyTile;  // less would be all start and merge

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

void divide_keys(const AttentionArgs& args, const DeviceLimits& device, AttentionPass& pass) {
  const int blocks = std::max(1, pass.num_tiles * args.shape.num_kv_heads);
  const int keys = most_keys(args) + kKeyTile - 1;  // the first tile may begin before the first key
  const int64_t floats_per_split =
      int64_t{args.num_rows} * args.shape.num_heads * (args.shape.head_dim + 2);
  const auto room = static_cast<int>(
      std::clamp<int64_t>(kMaxPartialFloats / std::max<int64_t>(floats_per_split, 1), 1, 4096));
  const int wanted = std::min(ceil_div(2 * device.num_sms, blocks), room);
  const int split = std::max(kMinSplitKeys, ceil_div(keys, std::max(wanted, 1)));
  pass.split_keys = ceil_div(split, kKeyTile) * kKeyTile;
  pass.num_splits = ceil_div(keys, pass.split_keys);
  // Half-empty waves are better than merging a few splits.
  if (blocks >= device.num_sms) pass.num_splits = 1;
  if (pass.num_splits == 1) pass.split_keys = ceil_div(keys, kKeyTile) * kKeyTile;
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
