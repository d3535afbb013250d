// A fixed set of threads with a static division of work: which thread does what depends only on
// counts. Waiting threads spin for a moment (operations follow each other within microseconds),
// then yield, then sleep, because several ranks may share a core.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace beryl::kernels::cpu {

struct IndexRange {
  int64_t begin = 0;
  int64_t end = 0;
  bool empty() const { return begin >= end; }
};

class ThreadPool {
 public:
  // num_threads >= 1, the caller of run() included; 1 starts no thread.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return num_threads_; }

  // Calls task(thread_idx) once on each thread and returns when all are done. Not reentrant; one
  // caller at a time. The task must not throw.
  template <typename Task>
  void run(const Task& task) {
    run_erased([](const void* t, int thread_idx) { (*static_cast<const Task*>(t))(thread_idx); },
               &task);
  }

  // Calls body(begin, end) on consecutive parts of [0, count), one per thread; inline when count is
  // below `min_count`, where waking threads would cost more than they save.
  template <typename Body>
  void parallel_for(int64_t count, int64_t min_count, const Body& body) {
    if (count <= 0) return;
    if (num_threads_ == 1 || count < min_count) return body(int64_t{0}, count);
    run([&](int thread_idx) {
      const int64_t begin = count * thread_idx / num_threads_;
      const int64_t end = count * (thread_idx + 1) / num_threads_;
      if (begin < end) body(begin, end);
    });
  }

 private:
  using Erased = void (*)(const void* task, int thread_idx);

  void run_erased(Erased function, const void* task);
  void work(int thread_idx);

  const int num_threads_;
  Erased function_ = nullptr;
  const void* task_ = nullptr;
  std::atomic<bool> is_stopping_{false};
  alignas(64) std::atomic<uint32_t> generation_{0};  // one more for each run
  alignas(64) std::atomic<int32_t> num_pending_{0};  // threads that have not finished it
  std::vector<std::thread> threads_;
};

// The part that thread `thread_idx` of `num_threads` takes of work laid out on one line of cost.
// Jobs are asked in order; a unit belongs to the thread in whose share it starts.
class CostShare {
 public:
  CostShare(int64_t total_cost, int thread_idx, int num_threads)
      : begin_(total_cost * thread_idx / num_threads),
        end_(total_cost * (thread_idx + 1) / num_threads) {}

  // Units of the next job that are mine.
  IndexRange take(int64_t num_units, int64_t unit_cost) {
    const IndexRange range = {first_unit(begin_, num_units, unit_cost),
                              first_unit(end_, num_units, unit_cost)};
    position_ += num_units * unit_cost;
    return range;
  }

 private:
  int64_t first_unit(int64_t border, int64_t num_units, int64_t unit_cost) const {
    const int64_t offset = border - position_;
    if (offset <= 0) return 0;
    const int64_t unit = (offset + unit_cost - 1) / unit_cost;
    return unit < num_units ? unit : num_units;
  }

  int64_t begin_;
  int64_t end_;
  int64_t position_ = 0;
};

}  // namespace beryl::kernels::cpu
