// Operations that give out addresses without memory behind them and count the bytes.
#pragma once

#include <cstdint>
#include <map>

#include "tests/parallel/expert/scalar_ops.h"

namespace beryl::service {

class CountingOps final : public expert::ScalarOps {
 public:
  void* allocate(size_t num_bytes) override {
    next_ += kSpacing;
    sizes_[reinterpret_cast<void*>(next_)] = num_bytes;
    return reinterpret_cast<void*>(next_);
  }
  void free(void* memory) noexcept override { sizes_.erase(memory); }

  // Given out and not returned.
  uint64_t num_bytes() const {
    uint64_t sum = 0;
    for (const auto& entry : sizes_) sum += entry.second;
    return sum;
  }

 private:
  static constexpr uintptr_t kSpacing = uintptr_t{1} << 32;

  uintptr_t next_ = 0;
  std::map<void*, uint64_t> sizes_;
};

}  // namespace beryl::service
