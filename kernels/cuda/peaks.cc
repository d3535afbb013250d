#include "kernels/cuda/peaks.h"

#include <algorithm>
#include <cstddef>

#include "kernels/cuda/device_buffer.h"
#include "kernels/cuda/event.h"
#include "kernels/cuda/pinned_buffer.h"
#include "kernels/cuda/stream.h"

namespace beryl::kernels::cuda {
namespace {

constexpr int kRepeats = 10;

// Best of kRepeats.
double measure(void* to, const void* from, size_t num_bytes, cudaMemcpyKind kind) {
  const Stream stream;
  const Event start(true);
  const Event end(true);
  double best = 0;
  for (int i = 0; i < kRepeats; ++i) {
    start.record(stream.get());
    BERYL_CUDA(cudaMemcpyAsync(to, from, num_bytes, kind, stream.get()));
    end.record(stream.get());
    end.synchronize();
    best = std::max(best, static_cast<double>(num_bytes) / (end.ms_since(start) * 1e-3));
  }
  return best;
}

}  // namespace

double measure_copy_bandwidth(int device) {
  BERYL_CUDA(cudaSetDevice(device));
  constexpr size_t kBytes = size_t{1} << 30;
  DeviceBuffer from;
  DeviceBuffer to;
  return 2 * measure(to.reserve(kBytes), from.reserve(kBytes), kBytes, cudaMemcpyDeviceToDevice);
}

double measure_upload_bandwidth(int device) {
  BERYL_CUDA(cudaSetDevice(device));
  constexpr size_t kBytes = size_t{256} << 20;
  const PinnedBuffer from(kBytes);
  DeviceBuffer to;
  return measure(to.reserve(kBytes), from.data(), kBytes, cudaMemcpyHostToDevice);
}

}  // namespace beryl::kernels::cuda
