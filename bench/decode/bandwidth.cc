#include "bench/decode/bandwidth.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <span>
#include <thread>
#include <vector>

#include "worker/weights/weight_memory.h"

namespace beryl::bench {

namespace {

constexpr int kNumPasses = 31;

// Four independent sums, so that no addition waits for the one before.
uint64_t read_all(std::span<const uint64_t> words) {
  uint64_t sums[4][4] = {};
  for (size_t i = 0; i + 16 <= words.size(); i += 16) {
    for (size_t j = 0; j < 4; ++j) {
      for (size_t k = 0; k < 4; ++k) sums[j][k] += words[i + 4 * j + k];
    }
  }
  uint64_t total = 0;
  for (const auto& row : sums) {
    for (const uint64_t sum : row) total += sum;
  }
  return total;
}

}  // namespace

double measure_read_bandwidth(int num_threads, size_t buffer_bytes) {
  using Clock = std::chrono::steady_clock;
  const weights::WeightMemory memory(buffer_bytes);
  std::memset(memory.bytes().data(), 1, buffer_bytes);
  const auto count = static_cast<size_t>(num_threads);
  const size_t part_words = buffer_bytes / count / sizeof(uint64_t);
  const auto* words = reinterpret_cast<const uint64_t*>(memory.bytes().data());
  std::atomic<uint64_t> total{0};
  std::vector<double> seconds;
  for (int pass = 0; pass < kNumPasses; ++pass) {
    const auto start = Clock::now();
    std::vector<std::thread> threads;
    for (size_t i = 0; i < count; ++i) {
      threads.emplace_back([&, i] { total += read_all({words + i * part_words, part_words}); });
    }
    for (std::thread& thread : threads) thread.join();
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  // The sum is used, so the reads cannot be left out.
  const double read_bytes =
      total == 0 ? 0 : static_cast<double>(part_words * count * sizeof(uint64_t));
  std::ranges::nth_element(seconds, seconds.begin() + kNumPasses / 2);
  return read_bytes / seconds[kNumPasses / 2];
}

}  // namespace beryl::bench
