// The socket type of this folder: bound to one io_context, which one thread runs.
#pragma once

#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <chrono>

namespace beryl::http {

using Socket =
    boost::asio::basic_stream_socket<boost::asio::ip::tcp, boost::asio::io_context::executor_type>;
using Clock = std::chrono::steady_clock;

// Set by whoever starts an operation; the tick of the I/O thread cancels the socket when it passes.
struct Deadline {
  Clock::time_point at = Clock::time_point::max();

  void clear() { at = Clock::time_point::max(); }
  void expire_after(Clock::duration duration) { at = Clock::now() + duration; }
};

}  // namespace beryl::http
