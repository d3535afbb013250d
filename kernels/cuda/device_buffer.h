// DeviceBuffer: device memory that grows on demand; contents are lost when it grows. Move-only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/cuda/error.h"

namespace beryl::kernels::cuda {

class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  ~DeviceBuffer() {
    if (memory_ != nullptr) (void)cudaFree(memory_);
  }
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : memory_(std::exchange(other.memory_, nullptr)), capacity_(other.capacity_) {}
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(capacity_, other.capacity_);
    return *this;
  }

  // At least num_bytes, aligned to 256. Growing waits for the device (cudaFree does).
  void* reserve(size_t num_bytes) {
    if (num_bytes > capacity_) {
      capacity_ = 0;
      if (memory_ != nullptr) BERYL_CUDA(cudaFree(std::exchange(memory_, nullptr)));
      BERYL_CUDA(cudaMalloc(&memory_, num_bytes));
      capacity_ = num_bytes;
    }
    return memory_;
  }
  // Null until something was reserved; changes when the buffer grows.
  const void* data() const { return memory_; }
  template <typename T>
  T* reserve_of(int64_t count) {
    return static_cast<T*>(reserve(static_cast<size_t>(count > 0 ? count : 1) * sizeof(T)));
  }

 private:
  void* memory_ = nullptr;
  size_t capacity_ = 0;
};

}  // namespace beryl::kernels::cuda
