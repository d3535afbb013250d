#include "bench/load/http_client.h"

#include <utility>

namespace beryl::load {

namespace asio = boost::asio;
using asio::ip::tcp;

asio::awaitable<HttpClient::Answer> HttpClient::send(const std::string& request, bool keep_body) {
  co_return co_await exchange(request, keep_body, nullptr);
}

asio::awaitable<HttpClient::Answer> HttpClient::send(const std::string& request,
                                                     const BodyListener& listener) {
  co_return co_await exchange(request, true, &listener);
}

asio::awaitable<HttpClient::Answer> HttpClient::exchange(const std::string& request, bool keep_body,
                                                         const BodyListener* listener) {
  const bool was_open = socket_.is_open();
  is_cut_ = false;
  Answer answer = co_await exchange_once(request, keep_body, listener);
  if (answer.status == 0 && was_open && num_bytes_read_ == 0 && !is_cut_) {
    answer = co_await exchange_once(request, keep_body, listener);
  }
  co_return answer;
}

asio::awaitable<HttpClient::Answer> HttpClient::exchange_once(const std::string& request,
                                                              bool keep_body,
                                                              const BodyListener* listener) {
  Answer answer;
  boost::system::error_code error;
  const auto token = [&error] { return asio::redirect_error(asio::use_awaitable, error); };
  num_bytes_read_ = 0;
  if (!socket_.is_open()) {
    co_await socket_.async_connect(endpoint_, token());
    if (error) {
      close();
      co_return answer;
    }
    socket_.set_option(tcp::no_delay(true));
  }
  co_await asio::async_write(socket_, asio::buffer(request), token());
  reader_.reset(keep_body);
  while (!error && reader_.state() != ResponseReader::State::kDone &&
         reader_.state() != ResponseReader::State::kBroken) {
    const size_t n = co_await socket_.async_read_some(asio::buffer(buffer_), token());
    num_bytes_read_ += n;
    reader_.feed(std::string_view(buffer_.data(), n));
    if (answer.first_event == Clock::time_point() && reader_.num_events() >= 2) {
      answer.first_event = Clock::now();
    }
    if (listener != nullptr && reader_.status() == 200) (*listener)(reader_.drain_body());
  }
  if (reader_.state() == ResponseReader::State::kDone) answer.status = reader_.status();
  if (answer.status == 0 || !reader_.keep_alive()) {
    boost::system::error_code ignored;
    socket_.close(ignored);
  }
  answer.events = reader_.num_events();
  answer.body = reader_.drain_body();
  co_return answer;
}

void HttpClient::close() {
  is_cut_ = true;
  boost::system::error_code ignored;
  socket_.close(ignored);
}

}  // namespace beryl::load
