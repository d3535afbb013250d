#include "coordinator/http/one_shot_event.h"

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace beryl::http {

namespace asio = boost::asio;

asio::awaitable<bool> OneShotEvent::wait_until(std::chrono::steady_clock::time_point deadline) {
  if (is_set_) co_return true;
  boost::system::error_code ignored;
  timer_.expires_at(deadline);
  co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  co_return is_set_;
}

}  // namespace beryl::http
