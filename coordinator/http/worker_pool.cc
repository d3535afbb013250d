#include "coordinator/http/worker_pool.h"

#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <exception>
#include <utility>

#include "coordinator/http/one_shot_event.h"

namespace beryl::http {

namespace asio = boost::asio;

WorkerPool::WorkerPool(size_t num_threads, size_t max_queued_jobs, metrics::Gauge& queue_length)
    : pool_(num_threads), max_queued_jobs_(max_queued_jobs), queue_length_(queue_length) {}

WorkerPool::~WorkerPool() {
  stop();
}

asio::awaitable<base::Status> WorkerPool::run(std::function<void()> job) {
  if (num_jobs_.fetch_add(1) >= max_queued_jobs_) {
    num_jobs_.fetch_sub(1);
    co_return base::Error{base::ErrorCode::kQueueFull,
                          "The server is busy reading other requests. Try again later.",
                          {},
                          "server_overloaded"};
  }
  queue_length_.set(static_cast<double>(num_jobs_.load()));
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  OneShotEvent done(executor);
  bool failed = false;
  // The frame outlives the job: a connection ends only when its handler has returned, and the pool
  // is stopped before the I/O contexts go.
  asio::post(pool_, [&, executor] {
    try {
      job();
    } catch (const std::exception&) {
      failed = true;
    }
    num_jobs_.fetch_sub(1);
    asio::post(executor, [&done] { done.set(); });
  });
  co_await done.wait_until(std::chrono::steady_clock::time_point::max());
  queue_length_.set(static_cast<double>(num_jobs_.load()));
  if (failed) co_return base::Error{base::ErrorCode::kInternal, "Internal error.", {}, {}};
  co_return base::Status::ok();
}

void WorkerPool::stop() {
  pool_.join();
}

}  // namespace beryl::http
