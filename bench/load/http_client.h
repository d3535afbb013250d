// HttpClient: one connection to a server and the answers it reads, for coroutines of one thread.
#pragma once

#include <array>
#include <boost/asio.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "bench/load/response_reader.h"

namespace beryl::load {

// Pieces of a body as they come; the number of a piece says nothing.
using BodyListener = std::function<void(std::string_view)>;

class HttpClient {
 public:
  using Clock = std::chrono::steady_clock;

  HttpClient(boost::asio::io_context& io, boost::asio::ip::tcp::endpoint endpoint)
      : socket_(io), endpoint_(std::move(endpoint)) {}

  struct Answer {
    int status = 0;  // 0: broken connection
    uint64_t events = 0;
    Clock::time_point first_event;  // after the first one, which carries the role alone
    std::string body;
  };

  // A kept connection that the server has closed meanwhile is opened again, once.
  boost::asio::awaitable<Answer> send(const std::string& request, bool keep_body);
  // Hands the body of a 200 to `listener` and keeps that of other answers.
  boost::asio::awaitable<Answer> send(const std::string& request, const BodyListener& listener);

  // Ends what is under way: its answer is a broken connection.
  void close();

 private:
  boost::asio::awaitable<Answer> exchange(const std::string& request, bool keep_body,
                                          const BodyListener* listener);
  boost::asio::awaitable<Answer> exchange_once(const std::string& request, bool keep_body,
                                               const BodyListener* listener);

  boost::asio::ip::tcp::socket socket_;
  boost::asio::ip::tcp::endpoint endpoint_;
  ResponseReader reader_;
  bool is_cut_ = false;          // by close(), during an exchange
  uint64_t num_bytes_read_ = 0;  // of the answer under way
  std::array<char, 64 * 1024> buffer_;
};

}  // namespace beryl::load
