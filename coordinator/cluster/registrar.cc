#include "coordinator/cluster/registrar.h"

#include <fmt/format.h>

#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <stdexcept>
#include <utility>

#include "parallel/wire/framing.h"
#include "parallel/wire/handshake.h"
#include "parallel/wire/limits.h"
#include "parallel/wire/validate.h"

namespace beryl::cluster {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

// NOTE: arguments of co_await are named variables here: gcc 12 frees temporaries of conditional
// expressions in them twice.
constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);
constexpr std::chrono::milliseconds kFarewellDeadline{1'000};
constexpr std::chrono::milliseconds kAcceptPause{100};  // after an error such as too many files

base::Error lost(const boost::system::error_code& error) {
  return base::Error{base::ErrorCode::kUnavailable, error.message(), "connection", {}};
}

asio::awaitable<base::Expected<wire::Frame>> read_frame(tcp::socket& socket) {
  std::array<char, wire::kFrameHeaderBytes> header{};
  auto [header_error, header_bytes] =
      co_await asio::async_read(socket, asio::buffer(header), kTuple);
  if (header_error) co_return lost(header_error);
  const auto num_bytes = wire::decode_frame_header(header, wire::kMaxHandshakeFrameBytes);
  if (!num_bytes) co_return num_bytes.error();
  std::string body(*num_bytes, '\0');
  auto [error, body_bytes] = co_await asio::async_read(socket, asio::buffer(body), kTuple);
  if (error) co_return lost(error);
  co_return wire::decode_frame(body);
}

asio::awaitable<base::Status> write_frame(tcp::socket& socket, const wire::Frame& frame) {
  const auto bytes = wire::encode_frame(frame, wire::kMaxHandshakeFrameBytes);
  if (!bytes) co_return bytes.error();
  auto [error, num_bytes] = co_await asio::async_write(socket, asio::buffer(*bytes), kTuple);
  if (error) co_return lost(error);
  co_return base::Status::ok();
}

// Then reads until the peer closes: closing first would discard the reason where something of the
// peer is still unread.
asio::awaitable<void> say_farewell(tcp::socket& socket, const std::string& reason) {
  const wire::Frame frame = wire::reject_frame(reason);
  const base::Status sent = co_await write_frame(socket, frame);
  if (!sent) co_return;
  boost::system::error_code ignored;
  socket.shutdown(tcp::socket::shutdown_send, ignored);
  std::array<char, 1024> buffer{};
  while (true) {
    auto [error, num_bytes] = co_await socket.async_read_some(asio::buffer(buffer), kTuple);
    if (error) co_return;
  }
}

tcp::endpoint resolve(asio::io_context& io, const ClusterOptions& options) {
  tcp::resolver resolver(io);
  boost::system::error_code error;
  const auto found = resolver.resolve(options.worker_host, std::to_string(options.worker_port),
                                      tcp::resolver::passive, error);
  if (error || found.empty()) {
    throw std::runtime_error(
        fmt::format("--worker-host {}: {}", options.worker_host, error.message()));
  }
  return *found.begin();
}

std::string address_of(const tcp::socket& socket) {
  boost::system::error_code error;
  const auto endpoint = socket.remote_endpoint(error);
  return error ? "unknown" : endpoint.address().to_string();
}

}  // namespace

Registrar::Registrar(asio::io_context& io, const ClusterOptions& options,
                     const wire::Secret& secret, base::Logger& log, OnWorker on_worker)
    : options_(options),
      secret_(secret),
      log_(log),
      on_worker_(std::move(on_worker)),
      acceptor_(io) {
  const tcp::endpoint endpoint = resolve(io, options);
  try {
    acceptor_.open(endpoint.protocol());
    acceptor_.set_option(tcp::acceptor::reuse_address(true));
    acceptor_.bind(endpoint);
    acceptor_.listen();
  } catch (const boost::system::system_error& error) {
    throw std::runtime_error(fmt::format("cannot listen for workers on {}:{}: {}",
                                         options.worker_host, options.worker_port,
                                         error.code().message()));
  }
  port_ = acceptor_.local_endpoint().port();
  asio::co_spawn(io, accept_loop(), asio::detached);
}

void Registrar::stop() {
  asio::post(acceptor_.get_executor(), [this] {
    boost::system::error_code ignored;
    acceptor_.close(ignored);
  });
}

asio::awaitable<void> Registrar::accept_loop() {
  while (acceptor_.is_open()) {
    auto [error, socket] = co_await acceptor_.async_accept(kTuple);
    if (error == asio::error::operation_aborted) co_return;
    if (error) {
      asio::steady_timer pause(acceptor_.get_executor(), kAcceptPause);
      co_await pause.async_wait(kTuple);
      continue;
    }
    if (num_greeting_ >= options_.max_connections) {
      log_.warning("too many workers register at once, {} is turned away", address_of(socket));
      continue;
    }
    asio::co_spawn(acceptor_.get_executor(),
                   greet(std::make_shared<tcp::socket>(std::move(socket))), asio::detached);
  }
}

// The timer's handler may be queued when this ends, so it shares the socket.
asio::awaitable<void> Registrar::greet(std::shared_ptr<tcp::socket> socket) {
  ++num_greeting_;
  const std::string address = address_of(*socket);
  asio::steady_timer deadline(socket->get_executor(), wire::kHandshakeDeadline);
  const auto close = [socket](boost::system::error_code error) {
    if (!error) socket->close(error);
  };
  deadline.async_wait(close);
  auto registration = co_await shake_hands(*socket);
  base::Status status;
  if (!registration) {
    status = registration.error();
  } else if (deadline.cancel() > 0) {
    status = on_worker_(*socket, *std::move(registration));
  }
  if (!status) {
    log_.warning("refused a worker at {}: {}", address, wire::clean_reason(status.error().message));
    // A peer without the secret learns no more than that.
    const bool is_known = status.error().code != base::ErrorCode::kUnauthenticated;
    deadline.expires_after(kFarewellDeadline);
    deadline.async_wait(close);
    const std::string reason = is_known ? status.error().message : "wrong cluster secret";
    co_await say_farewell(*socket, reason);
  }
  deadline.cancel();
  --num_greeting_;
}

asio::awaitable<base::Expected<Registrar::AnyRegistration>> Registrar::shake_hands(
    tcp::socket& socket) {
  wire::CoordinatorHandshake handshake(secret_);
  const auto hello = co_await read_frame(socket);
  if (!hello) co_return hello.error();
  const auto challenge = handshake.on_hello(*hello);
  if (!challenge) co_return challenge.error();
  if (auto status = co_await write_frame(socket, *challenge); !status) co_return status.error();
  const auto frame = co_await read_frame(socket);
  if (!frame) co_return frame.error();
  if (frame->has_bulk_registration()) {
    auto bulk = handshake.on_bulk_registration(*frame);
    if (!bulk) co_return bulk.error();
    co_return AnyRegistration(*std::move(bulk));
  }
  auto registration = handshake.on_registration(*frame);
  if (!registration) co_return registration.error();
  co_return AnyRegistration(*std::move(registration));
}

}  // namespace beryl::cluster
