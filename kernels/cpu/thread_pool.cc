#include "kernels/cpu/thread_pool.h"

#include "kernels/check.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace beryl::kernels::cpu {
namespace {

constexpr int kSpins = 2000;  // about 30 us: longer than the gap between two operations of a layer
constexpr int kYields = 50;

void pause_cpu() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

// Returns when `value` is no longer `old`.
template <typename T>
void wait_for_change(const std::atomic<T>& value, T old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    pause_cpu();
  }
  for (int i = 0; i < kYields; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    std::this_thread::yield();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int num_threads) : num_threads_(num_threads) {
  BERYL_CHECK(num_threads >= 1);
  for (int i = 1; i < num_threads; ++i) threads_.emplace_back([this, i] { work(i); });
}

ThreadPool::~ThreadPool() {
  is_stopping_.store(true, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::run_erased(Erased function, const void* task) {
  if (num_threads_ == 1) return function(task, 0);
  function_ = function;
  task_ = task;
  num_pending_.store(num_threads_ - 1, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  function(task, 0);
  for (;;) {
    const int32_t pending = num_pending_.load(std::memory_order_acquire);
    if (pending == 0) return;
    wait_for_change(num_pending_, pending);
  }
}

void ThreadPool::work(int thread_idx) {
  for (uint32_t seen = 0;; ++seen) {
    wait_for_change(generation_, seen);
    if (is_stopping_.load(std::memory_order_relaxed)) return;
    function_(task_, thread_idx);
    num_pending_.fetch_sub(1, std::memory_order_acq_rel);
    num_pending_.notify_one();
  }
}

}  // namespace beryl::kernels::cpu
