// WorkerLink: an authenticated connection of one rank. Lives on the io_context of its group's
// driver and is used from that thread only.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "parallel/base/expected.h"
#include "parallel/wire/cluster.pb.h"
#include "parallel/wire/limits.h"

namespace beryl::cluster {

class WorkerLink;

// Who hears of a link. Calls come from the link's own coroutines, never from within send().
class LinkListener {
 public:
  virtual ~LinkListener() = default;
  virtual void on_frame(WorkerLink& link, wire::Frame frame) = 0;
  // Once, unless close() came first.
  virtual void on_closed(WorkerLink& link, const std::string& reason) = 0;
  // All that was given to it is with the system.
  virtual void on_drained(WorkerLink&) {}
};

class WorkerLink : public std::enable_shared_from_this<WorkerLink> {
 public:
  using Clock = std::chrono::steady_clock;

  WorkerLink(boost::asio::ip::tcp::socket socket, wire::Registration registration,
             LinkListener& listener, size_t max_queued_bytes);

  void start();
  // Queued behind what is there. Ends the link when the rank reads too slowly.
  void send(const wire::Frame& frame, size_t max_bytes = wire::kMaxPlanFrameBytes);
  void send_bytes(std::shared_ptr<const std::string> bytes);
  // No more calls to the listener. With `flush` what is queued is sent first, and the worker has
  // kLinger to take it.
  void close(bool flush);

  const wire::Registration& registration() const { return registration_; }
  bool is_idle() const { return !writing_; }  // nothing waits to be sent
  uint32_t rank() const { return registration_.rank(); }
  Clock::time_point last_heard() const { return last_heard_; }

 private:
  void read_more();
  void on_read(std::size_t num_bytes);
  void write_more();
  void linger();
  void fail(const std::string& reason);

  boost::asio::ip::tcp::socket socket_;
  const wire::Registration registration_;
  LinkListener& listener_;
  const size_t max_queued_bytes_;
  struct Reader;
  std::shared_ptr<Reader> reader_;
  std::deque<std::shared_ptr<const std::string>> queue_;
  size_t queued_bytes_ = 0;
  boost::asio::steady_timer linger_timer_;
  bool reading_ = false;
  bool writing_ = false;
  bool closed_ = false;
  bool leaving_ = false;  // close() with flush: frames that arrive are dropped
  Clock::time_point last_heard_;
};

}  // namespace beryl::cluster
