// Page-aligned memory for weights, in huge pages where the system grants them: decoding reads all
// of it again and again.
#pragma once

#include <cstddef>
#include <span>

namespace beryl::weights {

class WeightMemory {
 public:
  WeightMemory() = default;
  // Throws LoadError when there is not enough memory.
  explicit WeightMemory(size_t num_bytes);
  ~WeightMemory();
  WeightMemory(WeightMemory&& other) noexcept;
  WeightMemory& operator=(WeightMemory&& other) noexcept;

  std::span<std::byte> bytes() const { return {data_, num_bytes_}; }

 private:
  std::byte* data_ = nullptr;
  size_t num_bytes_ = 0;
};

}  // namespace beryl::weights
