// ActiveStream: where operations launch: the main stream, or for a while another one.
#pragma once

#include <functional>
#include <utility>

#include "kernels/cuda/launch_stream.h"

namespace beryl::kernels::cuda {

class ActiveStream {
 public:
  ActiveStream(cudaStream_t main, bool overlaps) : stream_(main), overlaps_(overlaps) {}

  LaunchStream get() const { return {stream_, overlaps_}; }

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
  const bool overlaps_;
};

}  // namespace beryl::kernels::cuda
