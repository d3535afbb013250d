#include "coordinator/http/sse_stream.h"

#include <fmt/format.h>

#include <boost/asio/write.hpp>
#include <iterator>
#include <utility>

namespace beryl::http {

namespace asio = boost::asio;

SseStream::SseStream(Socket& socket, Deadline& deadline, const Limits& limits, Options options)
    : socket_(socket),
      deadline_(deadline),
      limits_(limits),
      options_(options),
      idle_(socket.get_executor()),
      last_write_(Clock::now()) {}

void SseStream::flush() {
  if (!writing_ && !failed_ && (!pending_.empty() || !head_.empty())) start_write();
}

void SseStream::start_write() {
  prefix_.clear();
  prefix_.swap(head_);
  in_flight_.clear();
  in_flight_.swap(pending_);
  if (options_.discard) in_flight_.clear();
  if (options_.chunked && !options_.discard) {
    if (!in_flight_.empty()) {
      fmt::format_to(std::back_inserter(prefix_), "{:x}\r\n", in_flight_.size());
      in_flight_ += "\r\n";
    }
    if (closing_ && !end_written_) in_flight_ += "0\r\n\r\n";
  }
  end_written_ = closing_;
  writing_ = true;
  last_write_ = Clock::now();
  deadline_.at = last_write_ + limits_.write_stall;
  const std::array<asio::const_buffer, 2> buffers = {asio::buffer(prefix_),
                                                     asio::buffer(in_flight_)};
  asio::async_write(socket_, buffers,
                    [this, owner = owner_.lock()](boost::system::error_code error, size_t) {
                      on_written(!error);
                    });
}

void SseStream::on_written(bool ok) {
  writing_ = false;
  deadline_.clear();
  if (!ok || failed_) {
    fail();
    return;
  }
  const bool was_congested = congested();
  if (!pending_.empty() || (closing_ && !end_written_)) {
    start_write();
  } else if (closing_) {
    idle_.set();
  }
  if (was_congested && drained_ && !closing_) drained_();
}

void SseStream::fail() {
  const bool first = !std::exchange(failed_, true);
  if (!writing_) idle_.set();
  if (first && failure_) failure_();
}

void SseStream::abort(bool stalled) {
  stalled_ = stalled_ || stalled;
  fail();
}

void SseStream::cut(std::string_view last_event) {
  cut_ = true;
  pending_.assign(last_event);
  flush();
}

asio::awaitable<bool> SseStream::finish() {
  closing_ = true;
  if (failed_ && !writing_) co_return false;
  if (!writing_) start_write();
  // Each write has its own deadline, after which the stream fails.
  co_await idle_.wait_until(Clock::time_point::max());
  co_return !failed_;
}

void SseStream::ping(Clock::time_point now) {
  if (writing_ || closing_ || failed_ || now - last_write_ < limits_.stream_ping_interval) return;
  pending_ += ": ping\n\n";
  flush();
}

}  // namespace beryl::http
