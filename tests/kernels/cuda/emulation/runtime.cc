// The part of the CUDA runtime that kernels/cuda calls, on host memory. Streams run at once. Device
// memory is closed to the process outside of kernels and copies: host code that touches it crashes.
#include <cuda_runtime_api.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>

#include "tests/kernels/cuda/emulation/device.h"

namespace {

constexpr size_t kPage = 4096;

struct Mapping {
  void* begin;
  size_t num_bytes;
};

std::map<void*, Mapping>& mappings() {
  static std::map<void*, Mapping> instance;
  return instance;
}

void protect_all(int protection) {
  for (const auto& [memory, mapping] : mappings()) {
    if (::mprotect(mapping.begin, mapping.num_bytes - kPage, protection) != 0) std::abort();
  }
}

// Opens the device's memory to this process as long as it lives.
struct Access {
  Access() { protect_all(PROT_READ | PROT_WRITE); }
  ~Access() { protect_all(PROT_NONE); }
};

}  // namespace

namespace beryl::emulation {

void with_device_memory(const std::function<void()>& work) {
  const Access access;
  work();
}

}  // namespace beryl::emulation

extern "C" {

// Ends at a page without access, filled with NaN: reading too far or too early shows.
cudaError_t cudaMalloc(void** memory, size_t size) {
  const size_t rounded = (size + 15) / 16 * 16;
  const size_t pages = (rounded + kPage - 1) / kPage * kPage;
  void* begin =
      ::mmap(nullptr, pages + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (begin == MAP_FAILED) return cudaErrorMemoryAllocation;
  auto* end = static_cast<unsigned char*>(begin) + pages;
  if (::mprotect(end, kPage, PROT_NONE) != 0) return cudaErrorMemoryAllocation;
  *memory = end - rounded;
  std::memset(*memory, 0xff, rounded);
  mappings()[*memory] = {begin, pages + kPage};
  if (::mprotect(begin, pages, PROT_NONE) != 0) return cudaErrorMemoryAllocation;
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
  const auto found = mappings().find(memory);
  if (found == mappings().end()) return memory == nullptr ? cudaSuccess : cudaErrorInvalidValue;
  ::munmap(found->second.begin, found->second.num_bytes);
  mappings().erase(found);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** memory, size_t size, unsigned) {
  *memory = std::malloc(size);
  return *memory != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFreeHost(void* memory) {
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* memory, int value, size_t count, cudaStream_t) {
  const Access access;
  std::memset(memory, value, count);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t count, cudaMemcpyKind,
                            cudaStream_t) {
  const Access access;
  std::memcpy(to, from, count);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = nullptr;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t) {
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = nullptr;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t) {
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) {
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) {
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t, cudaEvent_t) {
  *ms = 1;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  return device == 0 ? cudaSuccess : cudaErrorInvalidDevice;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
// Few SMs, so that small tests meet plans with and without splits.
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::strcpy(properties->name, "emulated device");
  properties->major = 9;
  properties->multiProcessorCount = 16;
  properties->sharedMemPerBlockOptin = 227 << 10;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  *free_bytes = *total_bytes = size_t{1} << 30;
  return cudaSuccess;
}
const char* cudaGetErrorString(cudaError_t) {
  return "error of the emulated device";
}
const char* cudaGetErrorName(cudaError_t) {
  return "cudaErrorEmulated";
}

}  // extern "C"
