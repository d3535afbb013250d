#include "worker/weights/weight_memory.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "parallel/base/progress.h"
#include "worker/weights/load_error.h"

namespace beryl::weights {

WeightMemory::WeightMemory(size_t num_bytes) {
  if (num_bytes == 0) return;
  void* memory =
      ::mmap(nullptr, num_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    throw LoadError(fmt::format("weights: expected {} of memory, found: {}",
                                base::format_bytes(static_cast<double>(num_bytes)),
                                std::strerror(errno)));
  }
  ::madvise(memory, num_bytes, MADV_HUGEPAGE);
  data_ = static_cast<std::byte*>(memory);
  num_bytes_ = num_bytes;
}

WeightMemory::~WeightMemory() {
  if (data_ != nullptr) ::munmap(data_, num_bytes_);
}

WeightMemory::WeightMemory(WeightMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), num_bytes_(std::exchange(other.num_bytes_, 0)) {}

WeightMemory& WeightMemory::operator=(WeightMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(num_bytes_, other.num_bytes_);
  return *this;
}

}  // namespace beryl::weights
