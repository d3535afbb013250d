// Event: a point in a stream's work; with timing on request. Move-only.
#pragma once

#include <utility>

#include "kernels/cuda/error.h"

namespace beryl::kernels::cuda {

class Event {
 public:
  explicit Event(bool with_timing = false) {
    BERYL_CUDA(
        cudaEventCreateWithFlags(&event_, with_timing ? cudaEventDefault : cudaEventDisableTiming));
  }
  ~Event() {
    if (event_ != nullptr) (void)cudaEventDestroy(event_);
  }
  Event(Event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  Event& operator=(Event&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }

  void record(cudaStream_t stream) const { BERYL_CUDA(cudaEventRecord(event_, stream)); }
  // Returns at once when nothing was recorded yet.
  void synchronize() const { BERYL_CUDA(cudaEventSynchronize(event_)); }
  // Milliseconds from `start` to this one; both made with timing.
  float ms_since(const Event& start) const {
    float ms = 0;
    BERYL_CUDA(cudaEventElapsedTime(&ms, start.event_, event_));
    return ms;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace beryl::kernels::cuda
