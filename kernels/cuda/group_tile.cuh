// Which rows a block works on when rows come in groups (experts, segments) whose sizes only the
// device knows. The grid is sized for the worst case; blocks without a tile leave.
#pragma once

#include "kernels/cuda/primitives.cuh"

namespace beryl::kernels::cuda {

struct GroupTile {
  int group;
  int begin;  // rows [begin, end), within one group
  int end;
};

// Groups of fewer than `min` or more than `max` rows have no tiles.
struct GroupFilter {
  int min = 1;
  int max = 0x7fffffff;
};

// Tiles of all groups. Called by one whole warp, the same on all lanes.
__device__ inline int count_group_tiles(const int32_t* offsets, int num_groups, int rows_per_tile) {
  int tiles = 0;
  for (int group = lane_idx(); group < num_groups; group += kWarpSize) {
    tiles += (offsets[group + 1] - offsets[group] + rows_per_tile - 1) / rows_per_tile;
  }
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
    tiles += __shfl_xor_sync(kAllLanes, tiles, distance);
  }
  return tiles;
}

// Tile number `tile` of all groups in order. offsets [num_groups + 1]. Called by one whole warp;
// false beyond the last tile, the same on all lanes.
__device__ inline bool find_group_tile(const int32_t* offsets, int num_groups, int rows_per_tile,
                                       GroupFilter filter, int tile, GroupTile& found) {
  const int lane = lane_idx();
  int before = 0;
  for (int base = 0; base < num_groups; base += kWarpSize) {
    const int group = base + lane;
    int begin = 0;
    int rows = 0;
    if (group < num_groups) {
      begin = offsets[group];
      rows = offsets[group + 1] - begin;
      if (rows < filter.min || rows > filter.max) rows = 0;
    }
    const int tiles = (rows + rows_per_tile - 1) / rows_per_tile;
    int inclusive = tiles;
    for (int distance = 1; distance < kWarpSize; distance *= 2) {
      const int other = __shfl_up_sync(kAllLanes, inclusive, distance);
      if (lane >= distance) inclusive += other;
    }
    const int first = before + inclusive - tiles;
    const unsigned owner = __ballot_sync(kAllLanes, tile >= first && tile < first + tiles);
    if (owner != 0) {
      const int source = __ffs(static_cast<int>(owner)) - 1;
      const int group_begin = __shfl_sync(kAllLanes, begin, source);
      const int group_rows = __shfl_sync(kAllLanes, rows, source);
      const int group_first = __shfl_sync(kAllLanes, first, source);
      found.group = base + source;
      found.begin = group_begin + (tile - group_first) * rows_per_tile;
      found.end = min(group_begin + group_rows, found.begin + rows_per_tile);
      return true;
    }
    before += __shfl_sync(kAllLanes, inclusive, kWarpSize - 1);
  }
  return false;
}

}  // namespace beryl::kernels::cuda
