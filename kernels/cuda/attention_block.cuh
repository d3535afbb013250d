// What a block of an attention kernel works on: rows of one segment times the query heads of one KV
// head, and a range of keys; and where its results go.
#pragma once

#include <math_constants.h>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/group_tile.cuh"

namespace beryl::kernels::cuda {

constexpr int kPairs = 64;  // pairs of a global head that rotate
constexpr int kHeadDimSliding = 256;
constexpr int kHeadDimGlobal = 512;

// Rows of K and V in tiles are taken in columns of 64 numbers. Scores are made of these columns of
// a cache entry, in this order (numbers in elements of a tile's row): on sliding layers of K; on
// global ones of V, where V does not rotate, and of the rotated K (columns 8 and 9), which replaces
// columns 0 and 4.
constexpr int kColumnNumbers = 64;
template <bool kGlobal>
__device__ constexpr int key_column(int i) {
  if (!kGlobal) return i;
  return i % 4 == 3 ? 8 + i / 4 : i / 4 * 4 + i % 4 + 1;
}
// The first dimension of q that belongs to that column.
template <bool kGlobal>
__device__ constexpr int query_dim(int i) {
  if (kGlobal && i % 4 == 3) return i / 4 * kHeadDimGlobal / 2;
  return key_column<kGlobal>(i) * kColumnNumbers;
}

struct KeyRange {
  int first;
  int last;  // included
};

__device__ inline KeyRange visible_keys(const AttentionArgs& args, int row) {
  const int position = args.positions[row];
  if (args.shape.window == 0) return {0, position};
  return {max(0, position - args.shape.window + 1),
          args.visible_end == nullptr ? position : args.visible_end[row]};
}

// Keys that any row of the tile sees. By a whole warp, the same on all lanes.
__device__ inline KeyRange tile_keys(const AttentionArgs& args, const GroupTile& rows) {
  KeyRange range = {0x7fffffff, -1};
  for (int row = rows.begin + lane_idx(); row < rows.end; row += kWarpSize) {
    const KeyRange keys = visible_keys(args, row);
    range.first = min(range.first, keys.first);
    range.last = max(range.last, keys.last);
  }
  range.first = __reduce_min_sync(kAllLanes, range.first);
  range.last = __reduce_max_sync(kAllLanes, range.last);
  return range;
}

// Query i of a block is head i % group of row i / group.
struct Block {
  GroupTile rows;
  int kv_head;
  int group;  // query heads of a KV head
  int num_queries;
  const int32_t* table;  // block ids of the segment, by block number
  KeyRange keys;         // of this block's split

  // Number of a query's vector in q and in the results.
  __device__ int64_t result(const AttentionArgs& args, int query) const {
    const int64_t row = rows.begin + query / group;
    return row * args.shape.num_heads + kv_head * group + query % group;
  }
  // Keys that a query sees in this split; none if there is no such query.
  __device__ KeyRange keys_of(const AttentionArgs& args, int query) const {
    if (query >= num_queries) return {1, 0};
    const KeyRange visible = visible_keys(args, rows.begin + query / group);
    return {max(visible.first, keys.first), min(visible.last, keys.last)};
  }
};

struct TileSize {
  int queries;
  int keys;
};

// Which rows and keys are this block's (grid (splits, KV heads, tiles)); false: none. Reads arrays
// of the batch only. By whole warps, which all find the same.
__device__ inline bool find_work(const AttentionArgs& args, const AttentionPass& pass,
                                 TileSize size, int row_tile, Block& block) {
  block.group = args.shape.num_heads / args.shape.num_kv_heads;
  block.kv_head = static_cast<int>(blockIdx.y);
  if (!find_group_tile(args.query_start_loc, args.num_segments, size.queries / block.group,
                       {pass.min_rows, pass.max_rows}, row_tile, block.rows)) {
    return false;
  }
  block.num_queries = (block.rows.end - block.rows.begin) * block.group;
  block.table = args.cache.table(block.rows.group);
  const KeyRange keys = tile_keys(args, block.rows);
  // The same number of key tiles for every split but the last ones.
  const int tiles = (keys.last - keys.first) / size.keys + 1;
  const int split_keys = (tiles + pass.num_splits - 1) / pass.num_splits * size.keys;
  const int first = keys.first + static_cast<int>(blockIdx.x) * split_keys;
  block.keys = {first, min(keys.last, first + split_keys - 1)};
  return true;
}

// Where the results of a split go, to be merged; or of all keys, which are the shares of `out`.
struct Output {
  bool is_partial;
  AttentionPartials partials;

  __device__ Output of_split(const AttentionArgs& args) const {
    if (!is_partial) return *this;
    const int64_t results = int64_t{blockIdx.x} * args.num_rows * args.shape.num_heads;
    return {true, {partials.sums + results * args.shape.head_dim, partials.top_total + results}};
  }
  // Numbers `at` and at + 1 of the results.
  __device__ void write(const AttentionArgs& args, int64_t at, float x, float y) const {
    if (is_partial) {
      *reinterpret_cast<float2*>(partials.sums + at) = make_float2(x, y);
    } else {
      *reinterpret_cast<__nv_bfloat162*>(args.out + at) = __floats2bfloat162_rn(x, y);
    }
  }
};

// A split without keys.
__device__ inline void write_nothing(const AttentionArgs& args, const Block& block,
                                     const Output& output) {
  const int query = static_cast<int>(threadIdx.x);
  if (query >= block.num_queries) return;
  output.partials.top_total[block.result(args, query)] = make_float2(-CUDART_INF_F, 0);
}

}  // namespace beryl::kernels::cuda
