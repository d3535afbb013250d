// The part of the CUDA runtime that kernels/cuda calls, on host memory. Streams run at once; graphs
// keep what was captured and run it when they are launched. One stream is captured at a time, by
// the thread that uses the device, and meanwhile refuses what a real capture refuses. Device memory
// is closed to the process outside of kernels and copies: host code that touches it crashes.
#include <cuda_runtime_api.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <utility>
#include <vector>

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

using Graph = std::vector<std::function<void()>>;

cudaError_t planted = cudaSuccess;

cudaStream_t capturing_stream = nullptr;
Graph captured;

// Streams are told apart by their addresses.
struct FakeStream {
  int unused = 0;
};

// Opens the device's memory to this process as long as it lives.
struct Access {
  Access() { protect_all(PROT_READ | PROT_WRITE); }
  ~Access() { protect_all(PROT_NONE); }
};

}  // namespace

namespace beryl::emulation {

void launch_on(cudaStream_t stream, std::function<void()> grid) {
  if (capturing_stream != nullptr && stream == capturing_stream) {
    captured.push_back(std::move(grid));
  } else {
    grid();
  }
}

void plant_error(cudaError_t error) {
  planted = error;
}

void with_device_memory(const std::function<void()>& work) {
  const Access access;
  work();
}

}  // namespace beryl::emulation

extern "C" {

// Ends at a page without access, filled with NaN: reading too far or too early shows.
cudaError_t cudaMalloc(void** memory, size_t size) {
  if (capturing_stream != nullptr) return cudaErrorStreamCaptureUnsupported;
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
  if (capturing_stream != nullptr) return cudaErrorStreamCaptureUnsupported;
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
  if (planted != cudaSuccess) return planted;
  const Access access;
  std::memcpy(to, from, count);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = reinterpret_cast<cudaStream_t>(new FakeStream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete reinterpret_cast<FakeStream*>(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (capturing_stream != nullptr) return cudaErrorIllegalState;
  capturing_stream = stream;
  captured.clear();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  if (capturing_stream != stream) return cudaErrorIllegalState;
  capturing_stream = nullptr;
  *graph = reinterpret_cast<cudaGraph_t>(new Graph(std::move(captured)));
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  *executable = reinterpret_cast<cudaGraphExec_t>(new Graph(*reinterpret_cast<Graph*>(graph)));
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  for (const std::function<void()>& grid : *reinterpret_cast<Graph*>(executable)) grid();
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete reinterpret_cast<Graph*>(graph);
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete reinterpret_cast<Graph*>(executable);
  return cudaSuccess;
}
cudaError_t cudaGetLastError() {
  return planted;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return planted;
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

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {};
  attributes->ptxVersion = 90;
  return cudaSuccess;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned,
                                             unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  const bool is_known = std::strcmp(symbol, "cuTensorMapEncodeTiled") == 0;
  *function = is_known ? reinterpret_cast<void*>(&beryl::emulation::encode_tensor_map) : nullptr;
  *result = is_known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
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
const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorIllegalAddress ? "cudaErrorIllegalAddress" : "cudaErrorEmulated";
}

}  // extern "C"
