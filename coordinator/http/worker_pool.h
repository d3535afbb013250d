// A bounded pool of threads for work that would hold up an I/O thread: JSON of big bodies,
// tokenizing.
#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/thread_pool.hpp>
#include <cstddef>
#include <functional>

#include "coordinator/metrics/registry.h"
#include "parallel/base/expected.h"

namespace beryl::http {

class WorkerPool {
 public:
  // `queue_length` must outlive this.
  WorkerPool(size_t num_threads, size_t max_queued_jobs, metrics::Gauge& queue_length);
  ~WorkerPool();

  // Runs `job` on a pool thread and resumes on the caller's executor. kQueueFull without running it
  // where too many wait, kInternal where it throws.
  boost::asio::awaitable<base::Status> run(std::function<void()> job);

  // Waits for the jobs that are running. No run() afterwards.
  void stop();

 private:
  boost::asio::thread_pool pool_;
  size_t max_queued_jobs_;
  std::atomic<size_t> num_jobs_{0};  // waiting or running
  metrics::Gauge& queue_length_;
};

}  // namespace beryl::http
