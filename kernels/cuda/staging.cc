#include "kernels/cuda/staging.h"

#include <algorithm>
#include <cstring>

namespace beryl::kernels::cuda {

Staging::Staging(int device) : device_(device) {
  for (auto& slot : slots_) slot = std::make_unique<Slot>();
}

void Staging::upload(void* to, const void* from, size_t num_bytes, cudaStream_t stream) {
  if (num_bytes == 0) return;
  BERYL_CUDA(cudaSetDevice(device_));  // per thread
  for (size_t at = 0; at < num_bytes; at += kSlotBytes) {
    const size_t part = std::min(kSlotBytes, num_bytes - at);
    Slot& slot = *slots_[next_.fetch_add(1) % kNumSlots];
    const std::lock_guard lock(slot.mutex);
    slot.copied.synchronize();
    std::memcpy(slot.memory.data(), static_cast<const std::byte*>(from) + at, part);
    BERYL_CUDA(cudaMemcpyAsync(static_cast<std::byte*>(to) + at, slot.memory.data(), part,
                               cudaMemcpyHostToDevice, stream));
    slot.copied.record(stream);
  }
}

}  // namespace beryl::kernels::cuda
