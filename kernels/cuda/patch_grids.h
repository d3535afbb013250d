// PatchGrids: the grids of a call's pictures, brought to the device. The layers of a tower ask for
// the same ones again and again: they travel once.
#pragma once

#include <vector>

#include "kernels/cuda/device_buffer.h"
#include "kernels/cuda/patches.h"
#include "kernels/cuda/staging.h"

namespace beryl::kernels::cuda {

class PatchGrids {
 public:
  DeviceGrids bring(const PatchBatch& batch, Staging& staging, cudaStream_t stream);

 private:
  std::vector<DeviceGrid> sent_;  // what the device holds
  std::vector<DeviceGrid> grids_;
  DeviceBuffer memory_;
};

}  // namespace beryl::kernels::cuda
