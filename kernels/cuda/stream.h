// Stream: one CUDA stream that does not synchronise with the default stream. Move-only.
#pragma once

#include <utility>

#include "kernels/cuda/error.h"

namespace beryl::kernels::cuda {

class Stream {
 public:
  Stream() { BERYL_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~Stream() {
    if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
  }
  Stream(Stream&& other) noexcept : stream_(std::exchange(other.stream_, nullptr)) {}
  Stream& operator=(Stream&& other) noexcept {
    std::swap(stream_, other.stream_);
    return *this;
  }

  cudaStream_t get() const { return stream_; }
  void synchronize() const { BERYL_CUDA(cudaStreamSynchronize(stream_)); }

 private:
  cudaStream_t stream_ = nullptr;
};

}  // namespace beryl::kernels::cuda
