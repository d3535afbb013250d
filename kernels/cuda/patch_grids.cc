#include "kernels/cuda/patch_grids.h"

#include <cstring>

namespace beryl::kernels::cuda {
namespace {

static_assert(sizeof(DeviceGrid) == 4 * sizeof(int32_t), "compared as bytes");

bool is_equal(const std::vector<DeviceGrid>& a, const std::vector<DeviceGrid>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(DeviceGrid)) == 0);
}

}  // namespace

DeviceGrids PatchGrids::bring(const PatchBatch& batch, Staging& staging, cudaStream_t stream) {
  DeviceGrids view;
  view.num_images = batch.num_images;
  grids_.clear();
  for (int i = 0; i < batch.num_images; ++i) {
    const PatchGrid& grid = batch.grids[i];
    grids_.push_back({view.num_patches, view.num_tiles, grid.height, grid.width});
    const auto num_patches = static_cast<int>(grid.num_patches());
    view.num_patches += num_patches;
    view.num_tiles += (num_patches + kPatchQueries - 1) / kPatchQueries;
  }
  if (!is_equal(grids_, sent_)) {
    sent_.clear();  // nothing is there if the upload fails
    auto* memory = memory_.reserve_of<DeviceGrid>(batch.num_images);
    staging.upload(memory, grids_.data(), grids_.size() * sizeof(DeviceGrid), stream);
    sent_ = grids_;
  }
  view.grids = memory_.reserve_of<DeviceGrid>(batch.num_images);
  return view;
}

}  // namespace beryl::kernels::cuda
