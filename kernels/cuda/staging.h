// Staging: copies from pageable host memory to the device through a few pinned buffers. Any thread
// may call upload(); threads copy into different buffers at the same time, so that loading weights
// keeps the bus busy.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>

#include "kernels/cuda/event.h"
#include "kernels/cuda/pinned_buffer.h"
#include "kernels/ops.h"

namespace beryl::kernels::cuda {

class Staging {
 public:
  explicit Staging(int device);

  // Returns when `from` may change; the copy itself is ordered in `stream`.
  void upload(void* to, const void* from, size_t num_bytes, cudaStream_t stream);
  // The same of what `fill` writes into the pinned buffers, at most kSlotBytes a call.
  void upload_from(void* to, size_t num_bytes, const UploadSource& fill, cudaStream_t stream);

 private:
  // A reader of files brings about 5 GB/s, the bus takes 50: as many fill as the bus can empty, and
  // some more wait for their copy.
  static constexpr size_t kNumSlots = 16;
  static constexpr size_t kSlotBytes = 8 << 20;

  struct Slot {
    PinnedBuffer memory{kSlotBytes};
    Event copied;
    std::mutex mutex;
  };

  const int device_;
  std::array<std::unique_ptr<Slot>, kNumSlots> slots_;
  std::atomic<size_t> next_{0};
};

}  // namespace beryl::kernels::cuda
