#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace beryl::kernels::cpu {
namespace {

TEST(ThreadPoolTest, RunsEveryThreadOnce) {
  for (const int num_threads : {1, 2, 3, 8}) {
    ThreadPool pool(num_threads);
    for (int round = 0; round < 200; ++round) {
      std::vector<int> seen(static_cast<size_t>(num_threads));
      pool.run([&](int thread_idx) { ++seen[static_cast<size_t>(thread_idx)]; });
      for (const int count : seen) ASSERT_EQ(count, 1);
    }
  }
}

TEST(ThreadPoolTest, OneThreadRunsInline) {
  ThreadPool pool(1);
  std::thread::id seen;
  pool.run([&](int) { seen = std::this_thread::get_id(); });
  EXPECT_EQ(seen, std::this_thread::get_id());
}

TEST(ThreadPoolTest, ParallelForCoversTheRange) {
  ThreadPool pool(3);
  for (const int64_t count : {0, 1, 2, 3, 4, 100}) {
    std::vector<std::atomic<int>> seen(static_cast<size_t>(count));
    pool.parallel_for(count, 2, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
    });
    for (const auto& times : seen) EXPECT_EQ(times, 1);
  }
}

TEST(ThreadPoolTest, WakesThreadsThatSleep) {
  ThreadPool pool(2);
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::atomic<int> count = 0;
    pool.run([&](int) { ++count; });
    EXPECT_EQ(count, 2);
  }
}

TEST(CostShareTest, EveryUnitBelongsToOneThread) {
  const std::vector<int64_t> num_units = {5, 0, 1, 17, 3};
  const std::vector<int64_t> unit_cost = {3, 1, 40, 2, 9};
  int64_t total = 0;
  for (size_t j = 0; j < num_units.size(); ++j) total += num_units[j] * unit_cost[j];
  for (const int num_threads : {1, 2, 3, 7, 64}) {
    std::vector<int64_t> next(num_units.size());
    for (int t = 0; t < num_threads; ++t) {
      CostShare share(total, t, num_threads);
      for (size_t j = 0; j < num_units.size(); ++j) {
        const IndexRange range = share.take(num_units[j], unit_cost[j]);
        if (range.empty()) continue;
        EXPECT_EQ(range.begin, next[j]);
        next[j] = range.end;
      }
    }
    EXPECT_EQ(next, num_units) << num_threads << " threads";
  }
}

}  // namespace
}  // namespace beryl::kernels::cpu
