// Connection: one blocking TCP stream of frames with a deadline on every wait. The workers' side;
// the coordinator uses Asio. One thread may receive while others send.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

#include "parallel/base/expected.h"
#include "parallel/wire/cluster.pb.h"

namespace beryl::wire {

struct Endpoint {
  std::string host;
  uint16_t port = 0;
};

// "host:port", "[v6]:port".
base::Expected<Endpoint> parse_endpoint(const std::string& text);

class Connection {
 public:
  using Milliseconds = std::chrono::milliseconds;

  // kUnavailable when nothing answers within `deadline`.
  static base::Expected<Connection> dial(const Endpoint& endpoint, Milliseconds deadline);

  explicit Connection(int fd);  // takes over a connected socket
  ~Connection();
  Connection(Connection&& other) noexcept;
  Connection& operator=(Connection&&) = delete;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Whole frames; callers of different threads take turns.
  base::Status send(const Frame& frame, size_t max_bytes, Milliseconds deadline);
  base::Status send_bytes(std::string_view bytes, Milliseconds deadline);

  // Whether something (or the end) can be received within `deadline`; nothing is consumed, so that
  // short waits may be repeated.
  bool wait_readable(Milliseconds deadline) const;
  // kDeadlineExceeded when no whole frame came in time, kUnavailable when the peer closed.
  base::Expected<Frame> receive(size_t max_bytes, Milliseconds deadline);

  // Ends pending and later calls of every thread.
  void shut_down() noexcept;

 private:
  using TimePoint = std::chrono::steady_clock::time_point;
  base::Status wait_for(short events, TimePoint until) const;
  base::Status read_exactly(char* out, size_t num_bytes, TimePoint until) const;

  int fd_ = -1;
  std::mutex send_mutex_;
};

}  // namespace beryl::wire
