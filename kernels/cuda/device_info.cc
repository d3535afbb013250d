#include "kernels/cuda/device_info.h"

#include <cuda_runtime_api.h>

#include <algorithm>

namespace beryl::kernels::cuda {
namespace {

constexpr int kMinComputeMajor = 8;

// 13000 -> "13.0"
std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string driver_problem(cudaError_t error) {
  int driver = 0;
  (void)cudaDriverGetVersion(&driver);
  const std::string needed = "needs an NVIDIA GPU and a driver for CUDA " +
                             version_text(CUDART_VERSION) + " or newer; found ";
  if (driver == 0) return needed + "no NVIDIA driver on this machine";
  const std::string found = "a driver for CUDA " + version_text(driver);
  return needed + found + ", which says: " + cudaGetErrorString(error);
}

}  // namespace

DeviceInfo as_sm_80(const DeviceInfo& info) {
  constexpr int kSharedBytes = 163 << 10;  // of a block of sm_80, opted in
  DeviceInfo capped;                       // what is not named below, an sm_80 does not have
  capped.is_usable = info.is_usable;
  capped.problem = info.problem;
  capped.name = info.name;
  capped.compute_major = 8;
  capped.compute_minor = 0;
  capped.num_sms = info.num_sms;
  capped.total_bytes = info.total_bytes;
  capped.free_bytes = info.free_bytes;
  capped.max_shared_bytes = std::min(info.max_shared_bytes, kSharedBytes);
  return capped;
}

DeviceInfo query_device(int device) {
  DeviceInfo info;
  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    info.problem = driver_problem(error);
    return info;
  }
  if (device < 0 || device >= count) {
    info.problem =
        "device " + std::to_string(device) + " of " + std::to_string(count) + " does not exist";
    return info;
  }
  cudaDeviceProp properties = {};
  error = cudaSetDevice(device);
  if (error == cudaSuccess) error = cudaGetDeviceProperties(&properties, device);
  if (error == cudaSuccess) error = cudaMemGetInfo(&info.free_bytes, &info.total_bytes);
  if (error != cudaSuccess) {
    info.problem = "device " + std::to_string(device) +
                   " cannot be used: " + std::string(cudaGetErrorString(error));
    return info;
  }
  info.name = properties.name;
  info.compute_major = properties.major;
  info.compute_minor = properties.minor;
  info.num_sms = properties.multiProcessorCount;
  info.max_shared_bytes = static_cast<int>(properties.sharedMemPerBlockOptin);
  if (info.compute_major < kMinComputeMajor) {
    info.problem = info.name + " has compute capability " + std::to_string(info.compute_major) +
                   "." + std::to_string(info.compute_minor) + ", 8.0 or newer is needed";
    return info;
  }
#if defined(BERYL_HAS_SM_90A_CODE)
  info.has_wgmma = info.compute_major == 9 && info.compute_minor == 0;
#endif
  info.is_usable = true;
  return info;
}

}  // namespace beryl::kernels::cuda
