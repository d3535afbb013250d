#include "coordinator/http/io_thread.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <ctime>
#include <exception>
#include <utility>
#include <vector>

namespace beryl::http {

namespace asio = boost::asio;

namespace {

std::string http_date() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[40];
  const size_t size = std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts);
  return {text, size};
}

}  // namespace

IoThread::IoThread(ServerState& state)
    : state_(state), work_(context_.get_executor()), timer_(context_), date_(http_date()) {}

IoThread::~IoThread() {
  stop();
}

void IoThread::start() {
  tick();
  thread_ = std::thread([this] { context_.run(); });
}

void IoThread::adopt(Socket socket, ConnectionBudget::Slot slot) {
  asio::post(context_, [this, socket = std::move(socket), slot = std::move(slot)]() mutable {
    serve(std::move(socket), std::move(slot));
  });
}

void IoThread::serve(Socket socket, ConnectionBudget::Slot slot) {
  auto connection = std::make_shared<Connection>(std::move(socket), std::move(slot), state_, date_);
  connections_.insert(connection);
  asio::co_spawn(
      context_, [connection] { return connection->run(); },
      [this, connection](std::exception_ptr thrown) {
        connections_.erase(connection);
        if (!thrown) return;
        try {
          std::rethrow_exception(thrown);
        } catch (const std::exception& error) {
          state_.logger.error("connection failed: {}", error.what());
        }
      });
}

void IoThread::abort_connections() {
  asio::post(context_, [this] {
    const std::vector<std::shared_ptr<Connection>> all(connections_.begin(), connections_.end());
    for (const auto& connection : all) connection->abort();
  });
}

void IoThread::tick() {
  timer_.expires_after(kTickInterval);
  timer_.async_wait([this](boost::system::error_code error) {
    if (error) return;
    date_ = http_date();
    const Clock::time_point now = Clock::now();
    const std::vector<std::shared_ptr<Connection>> all(connections_.begin(), connections_.end());
    for (const auto& connection : all) connection->on_tick(now);
    tick();
  });
}

void IoThread::stop() {
  context_.stop();
  if (thread_.joinable()) thread_.join();
}

}  // namespace beryl::http
