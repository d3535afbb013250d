// Checks of CUDA calls. Launchers return cudaError_t; the host side turns it into DeviceError.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "kernels/device_error.h"

namespace beryl::kernels::cuda {

inline void check(cudaError_t error, const char* call) {
  if (error == cudaSuccess) [[likely]]
    return;
  throw DeviceError(std::string("CUDA: ") + call + ": " + cudaGetErrorString(error) + " (" +
                    cudaGetErrorName(error) + ")");
}

}  // namespace beryl::kernels::cuda

#define BERYL_CUDA(call) ::beryl::kernels::cuda::check((call), #call)
