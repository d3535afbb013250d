// One client connection: reads requests one after another, asks the router, lets the handler
// answer, and keeps every limit of limits.h on the way. Lives on one I/O thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "coordinator/http/connection_budget.h"
#include "coordinator/http/exchange.h"
#include "coordinator/http/head_parser.h"
#include "coordinator/http/router.h"
#include "coordinator/http/server_config.h"
#include "coordinator/http/socket.h"
#include "parallel/base/log.h"

namespace beryl::http {

// What all connections of a server share.
struct ServerState {
  const ServerConfig& config;
  const ServerHooks& hooks;
  const Router& router;
  metrics::HttpMetrics& metrics;
  base::Logger& logger;
  ConnectionBudget& budget;
  WorkerPool& worker_pool;
  WorkerPool& slow_worker_pool;
  std::atomic<bool> draining{false};
  std::atomic<size_t> num_requests_in_flight{0};
  std::atomic<uint64_t> next_request_id{0};
};

class Connection final : public Exchange, public std::enable_shared_from_this<Connection> {
 public:
  // `date` is the value of the Date header, kept current by the I/O thread.
  Connection(Socket socket, ConnectionBudget::Slot slot, ServerState& state,
             const std::string& date);

  // Serves the connection to its end.
  boost::asio::awaitable<void> run();

  void on_tick(Clock::time_point now);
  // The server stops: ends everything now.
  void abort();

  Request& request() override { return request_; }
  boost::asio::any_io_executor executor() override { return socket_.get_executor(); }
  WorkerPool& worker_pool() override { return state_.worker_pool; }
  WorkerPool& slow_worker_pool() override { return state_.slow_worker_pool; }
  bool is_draining() const override { return state_.draining.load(std::memory_order_relaxed); }
  void on_disconnect(std::function<void()> callback) override;
  SseStream& start_stream(HeaderFields headers) override;

 private:
  enum class Next { kNextRequest, kLinger, kClose };
  enum class ReadResult { kOk, kClosed, kTimeout };

  boost::asio::awaitable<Next> serve_one();
  boost::asio::awaitable<Next> serve_request();
  // False: the client has left without sending anything.
  boost::asio::awaitable<bool> read_head(base::Status& status);
  base::Expected<const Route*> admit();
  base::Status check_body_size(const Route& route) const;
  boost::asio::awaitable<base::Status> read_body(const Route& route, ConnectionBudget::Body& held);
  boost::asio::awaitable<base::Status> read_sized_body(ConnectionBudget::Body& held);
  boost::asio::awaitable<base::Status> read_chunked_body(size_t max_bytes,
                                                         ConnectionBudget::Body& held);
  boost::asio::awaitable<Response> handle(const Route& route);
  boost::asio::awaitable<Next> refuse(base::Error error, bool keep_framing);
  boost::asio::awaitable<Next> finish_answer(Response response);
  boost::asio::awaitable<bool> write(Response& response);
  boost::asio::awaitable<bool> write_continue();
  boost::asio::awaitable<void> linger();

  boost::asio::awaitable<ReadResult> read_more();
  std::string_view unread() const { return std::string_view(in_).substr(in_begin_); }
  void consume(size_t bytes);
  base::Status body_read_error(ReadResult result) const;
  void watch();
  bool take_readable();
  void client_gone();
  void record(int status);
  void choose_request_id();
  HeadContext head_context() const;
  const Limits& limits() const { return state_.config.limits; }

  Socket socket_;
  ConnectionBudget::Slot slot_;
  ServerState& state_;
  const std::string& date_;
  Deadline deadline_;
  bool timed_out_ = false;
  bool aborted_ = false;

  std::string in_;  // bytes read and not yet consumed, from in_begin_ on
  size_t in_begin_ = 0;
  HeadScanner scanner_;
  Request request_;
  const Route* route_ = nullptr;  // of the request being served
  Clock::time_point request_started_;
  std::string out_head_;

  std::optional<SseStream> stream_;
  std::function<void()> disconnect_callback_;
  bool watch_pending_ = false;
  bool client_gone_ = false;
};

}  // namespace beryl::http
