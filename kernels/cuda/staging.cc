#include "kernels/cuda/staging.h"

#include <algorithm>
#include <cstring>

namespace beryl::kernels::cuda {

Staging::Staging(int device) : device_(device) {
  for (auto& slot : slots_) slot = std::make_unique<Slot>();
}

void Staging::upload(void* to, const void* from, size_t num_bytes, cudaStream_t stream) {
  const auto* bytes = static_cast<const std::byte*>(from);
  upload_from(
      to, num_bytes,
      [bytes](size_t offset, std::byte* part, size_t count) {
        std::memcpy(part, bytes + offset, count);
      },
      stream);
}

void Staging::upload_from(void* to, size_t num_bytes, const UploadSource& fill,
                          cudaStream_t stream) {
  if (num_bytes == 0) return;
  BERYL_CUDA(cudaSetDevice(device_));  // per thread
  for (size_t at = 0; at < num_bytes; at += kSlotBytes) {
    const size_t part = std::min(kSlotBytes, num_bytes - at);
    Slot& slot = *slots_[next_.fetch_add(1) % kNumSlots];
    const std::lock_guard lock(slot.mutex);
    slot.copied.synchronize();
    fill(at, static_cast<std::byte*>(slot.memory.data()), part);
    BERYL_CUDA(cudaMemcpyAsync(static_cast<std::byte*>(to) + at, slot.memory.data(), part,
                               cudaMemcpyHostToDevice, stream));
    slot.copied.record(stream);
  }
}

}  // namespace beryl::kernels::cuda
