// The writing side of a stream of server-sent events: a bounded buffer in front of the socket. One
// write is under way at a time; everything appended meanwhile goes out with the next one.
#pragma once

#include <array>
#include <boost/asio/buffer.hpp>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "coordinator/http/limits.h"
#include "coordinator/http/one_shot_event.h"
#include "coordinator/http/socket.h"

namespace beryl::http {

class SseStream {
 public:
  struct Options {
    bool chunked = true;   // HTTP/1.1
    bool discard = false;  // HEAD: nothing is written
  };

  // All references must outlive this; `owner` keeps them alive while a write is under way.
  SseStream(Socket& socket, Deadline& deadline, const Limits& limits, Options options);
  SseStream(const SseStream&) = delete;
  SseStream& operator=(const SseStream&) = delete;
  void set_owner(std::weak_ptr<void> owner) { owner_ = std::move(owner); }

  // Bytes that precede the first event (the response head); not framed.
  void set_head(std::string head) { head_ = std::move(head); }

  // Append whole events ("data: …\n\n") here, then call flush(), once for many events.
  std::string& buffer() noexcept { return pending_; }
  void flush();

  // The client does not keep up: stop appending and wait for the callback of on_drained.
  bool congested() const noexcept { return pending_.size() >= limits_.stream_soft_bytes; }
  void on_drained(std::function<void()> callback) { drained_ = std::move(callback); }

  // Far too much is unsent.
  bool overflowed() const noexcept { return pending_.size() > limits_.stream_hard_bytes; }
  // Drops what is not being written yet; `last_event` (an error) takes its place.
  void cut(std::string_view last_event);
  bool was_cut() const noexcept { return cut_; }

  // A write failed or stalled: nothing can be sent any more.
  bool failed() const noexcept { return failed_; }
  bool stalled() const noexcept { return stalled_; }
  void on_failed(std::function<void()> callback) { failure_ = std::move(callback); }
  // From the connection, which also cancels the socket: a write took longer than it may, or the
  // server stops.
  void abort(bool stalled);

  // Writes the rest and the end of the stream. False if it failed.
  boost::asio::awaitable<bool> finish();

  // Called by the tick: a comment line, where nothing was sent for the ping interval.
  void ping(Clock::time_point now);

 private:
  void start_write();
  void on_written(bool ok);
  void fail();

  Socket& socket_;
  Deadline& deadline_;
  const Limits& limits_;
  Options options_;
  std::weak_ptr<void> owner_;
  std::string head_;
  std::string pending_;    // not yet given to the socket
  std::string in_flight_;  // being written
  std::string prefix_;     // head and chunk size of in_flight_
  std::function<void()> drained_;
  std::function<void()> failure_;
  OneShotEvent idle_;  // set when closed or failed, and no write is under way
  Clock::time_point last_write_;
  bool writing_ = false;
  bool closing_ = false;
  bool end_written_ = false;
  bool cut_ = false;
  bool failed_ = false;
  bool stalled_ = false;
};

}  // namespace beryl::http
