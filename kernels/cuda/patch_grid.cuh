// Which picture a patch or a tile of queries belongs to.
#pragma once

#include "kernels/cuda/patches.h"
#include "kernels/cuda/primitives.cuh"

namespace beryl::kernels::cuda {

// The last picture whose kFirst is at most `index`; every picture has patches, so firsts ascend.
template <int32_t DeviceGrid::*kFirst>
__device__ inline DeviceGrid grid_of(const DeviceGrids& grids, int index) {
  int begin = 0;
  int end = grids.num_images;
  while (end - begin > 1) {
    const int middle = (begin + end) / 2;
    if (grids.grids[middle].*kFirst <= index) {
      begin = middle;
    } else {
      end = middle;
    }
  }
  return grids.grids[begin];
}

__device__ inline DeviceGrid grid_of_patch(const DeviceGrids& grids, int patch) {
  return grid_of<&DeviceGrid::first_patch>(grids, patch);
}
__device__ inline DeviceGrid grid_of_tile(const DeviceGrids& grids, int tile) {
  return grid_of<&DeviceGrid::first_tile>(grids, tile);
}

}  // namespace beryl::kernels::cuda
