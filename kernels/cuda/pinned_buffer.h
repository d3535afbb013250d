// PinnedBuffer: page-locked host memory, which copies to and from a device need. Move-only.
#pragma once

#include <cstddef>
#include <utility>

#include "kernels/cuda/error.h"

namespace beryl::kernels::cuda {

class PinnedBuffer {
 public:
  explicit PinnedBuffer(size_t num_bytes) : num_bytes_(num_bytes) {
    BERYL_CUDA(cudaHostAlloc(&memory_, num_bytes, cudaHostAllocDefault));
  }
  ~PinnedBuffer() {
    if (memory_ != nullptr) (void)cudaFreeHost(memory_);
  }
  PinnedBuffer(PinnedBuffer&& other) noexcept
      : memory_(std::exchange(other.memory_, nullptr)), num_bytes_(other.num_bytes_) {}
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(num_bytes_, other.num_bytes_);
    return *this;
  }

  void* data() const { return memory_; }
  size_t num_bytes() const { return num_bytes_; }

 private:
  void* memory_ = nullptr;
  size_t num_bytes_ = 0;
};

}  // namespace beryl::kernels::cuda
