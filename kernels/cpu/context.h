// What the drivers of operations share: inner loops, threads, and memory that is reused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/thread_pool.h"

namespace beryl::kernels::cpu {

struct Context {
  const KernelTable& kernels;
  ThreadPool& pool;
};

// Floats that grow on demand and start at a cache line; contents are lost when they grow.
class Scratch {
 public:
  float* reserve(int64_t size) {
    if (size > capacity_) {
      memory_.reset();
      memory_.reset(new (std::align_val_t{kAlignment}) float[static_cast<size_t>(size)]);
      capacity_ = size;
    }
    return memory_.get();
  }

 private:
  static constexpr size_t kAlignment = 64;
  struct Deleter {
    void operator()(float* memory) const { ::operator delete[](memory, std::align_val_t{64}); }
  };
  std::unique_ptr<float[], Deleter> memory_;
  int64_t capacity_ = 0;
};

}  // namespace beryl::kernels::cpu
