// ActiveStream: where operations launch: the main stream, or for a while another one.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <utility>

namespace beryl::kernels::cuda {

class ActiveStream {
 public:
  explicit ActiveStream(cudaStream_t main) : stream_(main) {}

  cudaStream_t get() const { return stream_; }

  // Runs `work` with launches going to `stream`.
  void with(cudaStream_t stream, const std::function<void()>& work) {
    const Restore restore{stream_, std::exchange(stream_, stream)};
    work();
  }

 private:
  struct Restore {
    cudaStream_t& stream;
    cudaStream_t before;
    ~Restore() { stream = before; }
  };

  cudaStream_t stream_;
};

}  // namespace beryl::kernels::cuda
