// Lets one coroutine wait until something is set, with a deadline. Used on one executor only.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>

namespace beryl::http {

class OneShotEvent {
 public:
  explicit OneShotEvent(const boost::asio::any_io_executor& executor) : timer_(executor) {}

  void set() {
    is_set_ = true;
    timer_.cancel();
  }
  bool is_set() const noexcept { return is_set_; }

  // True if it was set, false if `deadline` passed before.
  boost::asio::awaitable<bool> wait_until(std::chrono::steady_clock::time_point deadline);

 private:
  boost::asio::steady_timer timer_;
  bool is_set_ = false;
};

}  // namespace beryl::http
