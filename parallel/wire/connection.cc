#include "parallel/wire/connection.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <utility>

#include "parallel/wire/framing.h"

namespace beryl::wire {
namespace {

using Clock = std::chrono::steady_clock;

base::Error lost(std::string message) {
  return base::Error{base::ErrorCode::kUnavailable, std::move(message), "connection", {}};
}

int milliseconds_until(Clock::time_point until) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1'000'000'000));
}

// One address; the socket is non-blocking from here on.
int connect_to(const addrinfo& address, Clock::time_point until) {
  const int fd = ::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  int error = 0;
  if (::connect(fd, address.ai_addr, address.ai_addrlen) != 0) error = errno;
  if (error == EINPROGRESS) {
    pollfd waiting{fd, POLLOUT, 0};
    const int rc = ::poll(&waiting, 1, milliseconds_until(until));
    socklen_t size = sizeof error;
    if (rc != 1 || ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = ETIMEDOUT;
  }
  if (error == 0) return fd;
  ::close(fd);
  errno = error;
  return -1;
}

}  // namespace

base::Expected<Endpoint> parse_endpoint(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) {
    return base::invalid_argument("endpoint", fmt::format("'{}' is not HOST:PORT", text));
  }
  Endpoint endpoint;
  endpoint.host = text.substr(0, colon);
  if (endpoint.host.size() > 2 && endpoint.host.front() == '[' && endpoint.host.back() == ']') {
    endpoint.host = endpoint.host.substr(1, endpoint.host.size() - 2);
  }
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data() + colon + 1, end, endpoint.port);
  if (parsed.ec != std::errc{} || parsed.ptr != end || endpoint.port == 0) {
    return base::invalid_argument("endpoint", fmt::format("'{}' has no valid port", text));
  }
  return endpoint;
}

base::Expected<Connection> Connection::dial(const Endpoint& endpoint, Milliseconds deadline) {
  const Clock::time_point until = Clock::now() + deadline;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const std::string port = std::to_string(endpoint.port);
  const int rc = ::getaddrinfo(endpoint.host.c_str(), port.c_str(), &hints, &found);
  if (rc != 0) return lost(fmt::format("cannot resolve {}: {}", endpoint.host, gai_strerror(rc)));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses(found, &freeaddrinfo);
  int error = 0;
  for (const addrinfo* address = found; address != nullptr; address = address->ai_next) {
    const int fd = connect_to(*address, until);
    if (fd >= 0) return Connection(fd);
    error = errno;
  }
  return lost(fmt::format("cannot connect to {}:{}: {}", endpoint.host, endpoint.port,
                          std::strerror(error)));
}

Connection::Connection(int fd) : fd_(fd) {
  const int on = 1;
  (void)::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  (void)::fcntl(fd_, F_SETFL, ::fcntl(fd_, F_GETFL) | O_NONBLOCK);
}

Connection::Connection(Connection&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

Connection::~Connection() {
  if (fd_ >= 0) ::close(fd_);
}

void Connection::shut_down() noexcept {
  if (fd_ >= 0) (void)::shutdown(fd_, SHUT_RDWR);
}

base::Status Connection::wait_for(short events, TimePoint until) const {
  while (true) {
    pollfd waiting{fd_, events, 0};
    const int rc = ::poll(&waiting, 1, milliseconds_until(until));
    if (rc == 1) return base::Status::ok();
    if (rc < 0 && errno == EINTR) continue;
    if (rc < 0) return lost(std::strerror(errno));
    return base::Error{base::ErrorCode::kDeadlineExceeded, "the peer is silent", "connection", {}};
  }
}

bool Connection::wait_readable(Milliseconds deadline) const {
  return wait_for(POLLIN, Clock::now() + deadline).is_ok();
}

base::Status Connection::send(const Frame& frame, size_t max_bytes, Milliseconds deadline) {
  auto bytes = encode_frame(frame, max_bytes);
  if (!bytes) return bytes.error();
  return send_bytes(*bytes, deadline);
}

base::Status Connection::send_bytes(std::string_view bytes, Milliseconds deadline) {
  const std::lock_guard lock(send_mutex_);
  const TimePoint until = Clock::now() + deadline;
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n >= 0) {
      bytes.remove_prefix(static_cast<size_t>(n));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      if (auto status = wait_for(POLLOUT, until); !status) return status;
    } else if (errno != EINTR) {
      return lost(fmt::format("cannot send: {}", std::strerror(errno)));
    }
  }
  return base::Status::ok();
}

base::Status Connection::read_exactly(char* out, size_t num_bytes, TimePoint until) const {
  while (num_bytes > 0) {
    const ssize_t n = ::recv(fd_, out, num_bytes, 0);
    if (n > 0) {
      out += n;
      num_bytes -= static_cast<size_t>(n);
    } else if (n == 0) {
      return lost("the peer closed the connection");
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      if (auto status = wait_for(POLLIN, until); !status) return status;
    } else if (errno != EINTR) {
      return lost(fmt::format("connection lost: {}", std::strerror(errno)));
    }
  }
  return base::Status::ok();
}

base::Expected<Frame> Connection::receive(size_t max_bytes, Milliseconds deadline) {
  const TimePoint until = Clock::now() + deadline;
  std::array<char, kFrameHeaderBytes> header{};
  if (auto status = read_exactly(header.data(), header.size(), until); !status) {
    return status.error();
  }
  const auto num_bytes = decode_frame_header(header, max_bytes);
  if (!num_bytes) return num_bytes.error();
  std::string body(*num_bytes, '\0');
  if (auto status = read_exactly(body.data(), body.size(), until); !status) return status.error();
  return decode_frame(body);
}

}  // namespace beryl::wire
