// Who may hold how much: connections in total and per address, and bytes of request bodies.
#pragma once

#include <atomic>
#include <boost/asio/ip/address.hpp>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "coordinator/http/limits.h"
#include "coordinator/metrics/server_metrics.h"

namespace beryl::http {

// Thread-safe. Must outlive what it hands out.
class ConnectionBudget {
 public:
  ConnectionBudget(const Limits& limits, metrics::HttpMetrics& metrics)
      : limits_(limits), metrics_(metrics) {}

  // One open connection; gives its place back when destroyed.
  class Slot {
   public:
    Slot() = default;
    Slot(ConnectionBudget& budget, std::string address)
        : budget_(&budget), address_(std::move(address)) {}
    Slot(Slot&& other) noexcept
        : budget_(std::exchange(other.budget_, nullptr)), address_(std::move(other.address_)) {}
    Slot& operator=(Slot&&) = delete;
    ~Slot();
    explicit operator bool() const noexcept { return budget_ != nullptr; }

   private:
    ConnectionBudget* budget_ = nullptr;
    std::string address_;
  };

  // Empty where a limit is reached.
  Slot open(const boost::asio::ip::address& address);
  size_t num_connections() const noexcept { return num_connections_.load(); }

  // Bytes of one body; gives them back when destroyed.
  class Body {
   public:
    explicit Body(ConnectionBudget& budget) : budget_(budget) {}
    Body(const Body&) = delete;
    Body& operator=(const Body&) = delete;
    ~Body();
    // Raises what is held to `bytes`; false where all bodies together would be too much.
    bool hold(size_t bytes);

   private:
    ConnectionBudget& budget_;
    size_t held_bytes_ = 0;
  };

 private:
  void close(const std::string& address);

  const Limits& limits_;
  metrics::HttpMetrics& metrics_;
  std::atomic<size_t> num_connections_{0};
  std::atomic<size_t> body_bytes_{0};
  std::mutex mutex_;
  std::map<std::string, size_t> connections_of_;  // by address
};

}  // namespace beryl::http
