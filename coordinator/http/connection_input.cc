// What a connection reads: heads, bodies, and whether the client is still there.
#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <utility>

#include "coordinator/http/chunk_decoder.h"
#include "coordinator/http/connection.h"

namespace beryl::http {

namespace asio = boost::asio;
using base::Error;
using base::ErrorCode;
using base::Status;
using boost::system::error_code;

namespace {

constexpr size_t kReadBytes = 8 * kKiB;
constexpr size_t kBodyReadBytes = 256 * kKiB;

}  // namespace

asio::awaitable<bool> Connection::read_head(Status& status) {
  in_.erase(0, std::exchange(in_begin_, 0));
  scanner_.reset();
  timed_out_ = false;
  deadline_.expire_after(in_.empty() ? limits().idle_timeout : limits().header_timeout);
  while (true) {
    const HeadScanner::State scanned = scanner_.scan(in_);
    const bool is_complete = scanned == HeadScanner::State::kComplete;
    if (scanned == HeadScanner::State::kBad) {
      status = base::invalid_argument({}, "A header line does not end with CR LF.");
      break;
    }
    if ((is_complete ? scanner_.head_bytes() : in_.size()) > limits().max_header_bytes) {
      status =
          Error{ErrorCode::kHeaderTooLarge,
                fmt::format("The request head is larger than {} bytes.", limits().max_header_bytes),
                {},
                {}};
      break;
    }
    if (is_complete) {
      status = parse_head({in_.data(), scanner_.head_bytes()}, limits(), request_);
      consume(scanner_.head_bytes());
      break;
    }
    const bool was_empty = in_.empty();
    const ReadResult result = co_await read_more();
    if (result == ReadResult::kTimeout && !was_empty) {
      status = Error{ErrorCode::kTimeout, "The request head took too long.", {}, {}};
      break;
    }
    if (result != ReadResult::kOk) co_return false;
    if (was_empty) deadline_.expire_after(limits().header_timeout);
  }
  deadline_.clear();
  co_return true;
}

asio::awaitable<Status> Connection::read_body(const Route& route, ConnectionBudget::Body& held) {
  timed_out_ = false;
  Status status;
  if (request_.chunked) {
    status = co_await read_chunked_body(
        route.max_body_bytes > 0 ? route.max_body_bytes : limits().default_body_bytes, held);
  } else {
    status = co_await read_sized_body(held);
  }
  deadline_.clear();
  co_return status;
}

asio::awaitable<Status> Connection::read_sized_body(ConnectionBudget::Body& held) {
  const size_t size = static_cast<size_t>(*request_.content_length);
  if (!held.hold(size)) {
    co_return Error{ErrorCode::kQueueFull,
                    "The server holds too many large requests.",
                    {},
                    "server_overloaded"};
  }
  std::string& body = request_.body;
  body.assign(unread().substr(0, size));
  consume(body.size());
  const Clock::time_point started = Clock::now();
  while (body.size() < size) {
    deadline_.at =
        started + limits().body_grace + time_at_rate(body.size(), limits().min_body_bytes_per_s);
    const size_t old_bytes = body.size();
    body.resize(old_bytes + std::min(size - old_bytes, kBodyReadBytes));
    error_code error;
    const size_t num_read = co_await socket_.async_read_some(
        asio::buffer(body.data() + old_bytes, body.size() - old_bytes),
        asio::redirect_error(asio::use_awaitable, error));
    body.resize(old_bytes + num_read);
    if (error) {
      co_return body_read_error(timed_out_ ? ReadResult::kTimeout : ReadResult::kClosed);
    }
  }
  co_return Status::ok();
}

asio::awaitable<Status> Connection::read_chunked_body(size_t max_bytes,
                                                      ConnectionBudget::Body& held) {
  ChunkDecoder decoder(limits(), max_bytes);
  const Clock::time_point started = Clock::now();
  while (true) {
    const auto consumed = decoder.decode(unread(), request_.body);
    if (!consumed) co_return consumed.error();
    consume(*consumed);
    if (!held.hold(request_.body.size())) {
      co_return Error{ErrorCode::kQueueFull,
                      "The server holds too many large requests.",
                      {},
                      "server_overloaded"};
    }
    if (decoder.done()) co_return Status::ok();
    deadline_.at = started + limits().body_grace +
                   time_at_rate(request_.body.size(), limits().min_body_bytes_per_s);
    const ReadResult result = co_await read_more();
    if (result != ReadResult::kOk) co_return body_read_error(result);
  }
}

Status Connection::body_read_error(ReadResult result) const {
  if (result == ReadResult::kTimeout) {
    return Error{ErrorCode::kTimeout, "The request body came too slowly.", {}, {}};
  }
  return Error{ErrorCode::kCancelled, "The client has closed the connection.", {}, {}};
}

// A close with unread input makes the kernel send a reset, which can overtake the answer. So the
// rest is read for a moment.
asio::awaitable<void> Connection::linger() {
  error_code ignored;
  socket_.shutdown(Socket::shutdown_send, ignored);
  deadline_.expire_after(limits().linger);
  in_.clear();
  in_begin_ = 0;
  size_t dropped_bytes = 0;
  while (dropped_bytes < limits().linger_bytes) {
    if (co_await read_more() != ReadResult::kOk) break;
    dropped_bytes += in_.size();
    in_.clear();
  }
  deadline_.clear();
}

asio::awaitable<Connection::ReadResult> Connection::read_more() {
  const size_t old_bytes = in_.size();
  in_.resize(old_bytes + kReadBytes);
  error_code error;
  const size_t num_read =
      co_await socket_.async_read_some(asio::buffer(in_.data() + old_bytes, kReadBytes),
                                       asio::redirect_error(asio::use_awaitable, error));
  in_.resize(old_bytes + num_read);
  if (!error) co_return ReadResult::kOk;
  co_return timed_out_ ? ReadResult::kTimeout : ReadResult::kClosed;
}

void Connection::consume(size_t bytes) {
  in_begin_ += bytes;
  if (in_begin_ == in_.size()) {
    in_.clear();
    in_begin_ = 0;
  }
}

void Connection::on_disconnect(std::function<void()> callback) {
  if (aborted_ || client_gone_) {
    callback();
    return;
  }
  disconnect_callback_ = std::move(callback);
  watch();
}

void Connection::watch() {
  if (watch_pending_) return;
  watch_pending_ = true;
  const bool may_read = unread().size() < limits().read_ahead_bytes;
  socket_.async_wait(may_read ? Socket::wait_read : Socket::wait_error,
                     [this, may_read, self = shared_from_this()](error_code error) {
                       watch_pending_ = false;
                       // Left over from an earlier request: reads are the coroutine's.
                       if (!disconnect_callback_) return;
                       if (error || !may_read || !take_readable()) {
                         client_gone();
                       } else {
                         watch();
                       }
                     });
}

// Reads what is there (a pipelined request); false at the end of the connection.
bool Connection::take_readable() {
  std::array<char, kReadBytes> buffer;
  while (unread().size() < limits().read_ahead_bytes) {
    const ssize_t num_read =
        ::recv(socket_.native_handle(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (num_read < 0) return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
    if (num_read == 0) return false;
    in_.append(buffer.data(), static_cast<size_t>(num_read));
  }
  return true;
}

void Connection::client_gone() {
  client_gone_ = true;
  state_.metrics.client_disconnects.add();
  if (auto callback = std::exchange(disconnect_callback_, nullptr)) callback();
}

}  // namespace beryl::http
