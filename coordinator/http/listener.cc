#include "coordinator/http/listener.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

namespace beryl::http {

namespace asio = boost::asio;
using boost::asio::ip::tcp;
using boost::system::error_code;

namespace {

constexpr std::chrono::milliseconds kAcceptBackoff{100};
constexpr std::string_view kTooManyConnections =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\n"
    "Connection: close\r\n\r\n";

int open_spare_fd() {
  return ::open("/dev/null", O_RDONLY | O_CLOEXEC);
}

}  // namespace

Listener::Listener(ServerState& state, std::vector<std::unique_ptr<IoThread>>& io_threads)
    : state_(state),
      io_threads_(io_threads),
      acceptor_(io_threads.front()->context()),
      spare_fd_(open_spare_fd()) {}

Listener::~Listener() {
  if (spare_fd_ >= 0) ::close(spare_fd_);
}

base::Status Listener::bind() {
  const ServerConfig& config = state_.config;
  const auto failed = [&](const char* what, const error_code& error) {
    return base::Error{
        base::ErrorCode::kUnavailable,
        fmt::format("cannot {} {}:{}: {}", what, config.host, config.port, error.message()),
        "--port",
        {}};
  };
  error_code error;
  tcp::resolver resolver(acceptor_.get_executor());
  const auto found =
      resolver.resolve(config.host, fmt::format("{}", config.port), tcp::resolver::passive, error);
  if (error || found.empty()) return failed("resolve", error);
  const tcp::endpoint endpoint = found.begin()->endpoint();
  if (acceptor_.open(endpoint.protocol(), error); error) return failed("open", error);
  acceptor_.set_option(asio::socket_base::reuse_address(true), error);
  if (acceptor_.bind(endpoint, error); error) return failed("bind", error);
  if (acceptor_.listen(asio::socket_base::max_listen_connections, error); error) {
    return failed("listen on", error);
  }
  port_ = acceptor_.local_endpoint().port();
  return base::Status::ok();
}

void Listener::start() {
  asio::co_spawn(
      io_threads_.front()->context(), [this] { return run(); }, asio::detached);
}

void Listener::close() {
  asio::post(acceptor_.get_executor(), [this] {
    error_code ignored;
    acceptor_.close(ignored);
  });
}

asio::awaitable<void> Listener::run() {
  asio::steady_timer backoff(acceptor_.get_executor());
  for (size_t i = 0; acceptor_.is_open(); i = (i + 1) % io_threads_.size()) {
    IoThread& io_thread = *io_threads_[i];
    Socket socket(io_thread.context());
    error_code error;
    co_await acceptor_.async_accept(socket, asio::redirect_error(asio::use_awaitable, error));
    if (!error) {
      place(std::move(socket), io_thread);
      continue;
    }
    if (error == asio::error::operation_aborted || !acceptor_.is_open()) co_return;
    state_.metrics.accept_errors.add();
    if (error == asio::error::no_descriptors || error.value() == ENFILE) {
      state_.logger.warning("no file descriptor left for new connections; raise 'ulimit -n'");
      shed_one();
    }
    backoff.expires_after(kAcceptBackoff);
    co_await backoff.async_wait(asio::redirect_error(asio::use_awaitable, error));
  }
}

void Listener::place(Socket socket, IoThread& io_thread) {
  state_.metrics.connections_accepted.add();
  error_code error;
  const tcp::endpoint peer = socket.remote_endpoint(error);
  if (error) return;
  ConnectionBudget::Slot slot = state_.budget.open(peer.address());
  if (!slot) {
    // Best effort: the socket buffer of a new connection takes this at once.
    [[maybe_unused]] const ssize_t sent =
        ::send(socket.native_handle(), kTooManyConnections.data(), kTooManyConnections.size(),
               MSG_DONTWAIT | MSG_NOSIGNAL);
    return;
  }
  socket.set_option(tcp::no_delay(true), error);
  if (const int bytes = state_.config.limits.send_buffer_bytes; bytes > 0) {
    socket.set_option(asio::socket_base::send_buffer_size(bytes), error);
  }
  io_thread.adopt(std::move(socket), std::move(slot));
}

// Without a descriptor the client would wait in the backlog for ever: accept with the spare one
// and close, so that it notices.
void Listener::shed_one() {
  if (spare_fd_ >= 0) ::close(spare_fd_);
  const int dropped = ::accept4(acceptor_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC);
  if (dropped >= 0) ::close(dropped);
  spare_fd_ = open_spare_fd();
}

}  // namespace beryl::http
