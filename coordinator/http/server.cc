#include "coordinator/http/server.h"

#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "coordinator/http/io_thread.h"
#include "coordinator/http/listener.h"

namespace beryl::http {

namespace {

constexpr std::chrono::milliseconds kDrainPoll{10};
constexpr std::chrono::milliseconds kStopTimeout{5'000};

}  // namespace

struct Server::Impl {
  Impl(Parts given, metrics::HttpMetrics& metrics, base::Logger& logger)
      : parts(std::move(given)),
        budget(parts.config.limits, metrics),
        pool(std::max<size_t>(1, parts.config.num_pool_threads),
             parts.config.limits.max_queued_jobs, metrics.worker_queue_length),
        slow_pool(std::max<size_t>(1, parts.config.num_slow_pool_threads),
                  parts.config.limits.max_queued_slow_jobs, metrics.slow_worker_queue_length),
        state{parts.config, parts.hooks, parts.router, metrics, logger, budget, pool, slow_pool} {
    const size_t num_threads = std::max<size_t>(1, parts.config.num_io_threads);
    for (size_t i = 0; i < num_threads; ++i) {
      io_threads.push_back(std::make_unique<IoThread>(state));
    }
    listener = std::make_unique<Listener>(state, io_threads);
  }

  Parts parts;
  ConnectionBudget budget;
  WorkerPool pool;
  WorkerPool slow_pool;
  ServerState state;
  std::vector<std::unique_ptr<IoThread>> io_threads;
  std::unique_ptr<Listener> listener;
  bool running = false;
};

Server::Server(Parts parts, metrics::HttpMetrics& metrics, base::Logger& logger)
    : impl_(std::make_unique<Impl>(std::move(parts), metrics, logger)) {}

Server::~Server() {
  stop();
}

base::Status Server::start() {
  if (base::Status status = impl_->listener->bind(); !status) return status;
  impl_->listener->start();
  for (const auto& io_thread : impl_->io_threads) io_thread->start();
  impl_->running = true;
  return base::Status::ok();
}

uint16_t Server::port() const {
  return impl_->listener->port();
}

void Server::begin_drain() {
  impl_->state.draining = true;
}

bool Server::is_draining() const {
  return impl_->state.draining;
}

size_t Server::num_requests_in_flight() const {
  return impl_->state.num_requests_in_flight;
}

bool Server::drain(std::chrono::milliseconds timeout) {
  begin_drain();
  const Clock::time_point deadline = Clock::now() + timeout;
  while (num_requests_in_flight() > 0 && Clock::now() < deadline) {
    std::this_thread::sleep_for(kDrainPoll);
  }
  return num_requests_in_flight() == 0;
}

void Server::stop() {
  if (!std::exchange(impl_->running, false)) return;
  begin_drain();
  impl_->listener->close();
  const Clock::time_point deadline = Clock::now() + kStopTimeout;
  for (const auto& io_thread : impl_->io_threads) io_thread->abort_connections();
  while (impl_->budget.num_connections() > 0 && Clock::now() < deadline) {
    std::this_thread::sleep_for(kDrainPoll);
  }
  impl_->pool.stop();
  impl_->slow_pool.stop();
  for (const auto& io_thread : impl_->io_threads) io_thread->stop();
}

}  // namespace beryl::http
