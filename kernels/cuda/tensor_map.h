// Maps for the tensor copies of hopper.cuh.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <initializer_list>

namespace beryl::kernels::cuda {

struct TensorMapDim {
  int64_t size;    // numbers
  int64_t stride;  // numbers to the next, a multiple of 8; of the first dimension 1
  int box;         // numbers that one copy brings, 1..256
};

// `map` of bf16 numbers at `base` (16-byte aligned), the contiguous dimension first; its box is 64
// numbers at most, and copies land in the 128-byte swizzle. Beyond the tensor copies give zeros.
// cudaErrorNotSupported where the driver has no tensor maps. Takes less than a microsecond:
// launchers make one for each launch, and none can be out of date.
cudaError_t make_tensor_map(CUtensorMap& map, const uint16_t* base,
                            std::initializer_list<TensorMapDim> dims);

}  // namespace beryl::kernels::cuda
