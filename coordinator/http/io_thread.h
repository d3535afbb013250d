// One thread with its own io_context and the connections that live on it. Its tick enforces their
// deadlines, which is cheaper than a timer per operation.
#pragma once

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <string>
#include <thread>
#include <unordered_set>

#include "coordinator/http/connection.h"

namespace beryl::http {

class IoThread {
 public:
  explicit IoThread(ServerState& state);
  ~IoThread();
  IoThread(const IoThread&) = delete;
  IoThread& operator=(const IoThread&) = delete;

  boost::asio::io_context& context() noexcept { return context_; }
  void start();
  // Serves `socket`, which must belong to context(). Thread-safe.
  void adopt(Socket socket, ConnectionBudget::Slot slot);
  // Ends all connections. Thread-safe.
  void abort_connections();
  // Ends the thread. What still waits there is destroyed with this object.
  void stop();

 private:
  void serve(Socket socket, ConnectionBudget::Slot slot);
  void tick();

  ServerState& state_;
  boost::asio::io_context context_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  boost::asio::steady_timer timer_;
  std::unordered_set<std::shared_ptr<Connection>> connections_;
  std::string date_;
  std::thread thread_;
};

}  // namespace beryl::http
