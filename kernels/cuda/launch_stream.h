// LaunchStream: a stream, and whether a kernel in it may start before the one before it has ended.
// It is used as a plain stream by launches and calls that know nothing of overlap.
#pragma once

#include <cuda_runtime_api.h>

namespace beryl::kernels::cuda {

struct LaunchStream {
  cudaStream_t stream = nullptr;
  bool overlaps = false;

  LaunchStream(cudaStream_t stream_in, bool overlaps_in = false)
      : stream(stream_in), overlaps(overlaps_in) {}
  operator cudaStream_t() const { return stream; }
};

}  // namespace beryl::kernels::cuda
