#include "tests/coordinator/http/raw_client.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <utility>

namespace beryl::http {
namespace {

constexpr int kReadTimeoutMs = 10'000;

bool wait_readable(int fd, int timeout_ms) {
  pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, timeout_ms) > 0;
}

RawResponse parse_response_head(std::string_view head) {
  RawResponse response;
  if (head.size() < 12) return response;
  response.status = std::stoi(std::string(head.substr(9, 3)));
  size_t begin = head.find("\r\n") + 2;
  while (begin < head.size()) {
    const size_t end = head.find("\r\n", begin);
    const std::string_view line = head.substr(begin, end - begin);
    const size_t colon = line.find(": ");
    if (colon == std::string_view::npos) break;
    std::string name(line.substr(0, colon));
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return std::tolower(c); });
    response.headers[name] = std::string(line.substr(colon + 2));
    begin = end + 2;
  }
  return response;
}

}  // namespace

RawClient::RawClient(uint16_t port, int receive_buffer_bytes) {
  fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (receive_buffer_bytes > 0) {
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof receive_buffer_bytes);
  }
  const int on = 1;
  ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) close();
}

RawClient::~RawClient() {
  close();
}

RawClient::RawClient(RawClient&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), in_(std::move(other.in_)) {}

void RawClient::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

void RawClient::reset() {
  const linger option{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &option, sizeof option);
  close();
}

void RawClient::shutdown_send() {
  ::shutdown(fd_, SHUT_WR);
}

bool RawClient::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

bool RawClient::read_some(std::string& out) {
  if (!fill()) return false;
  out += std::exchange(in_, {});
  return true;
}

bool RawClient::fill() {
  if (fd_ < 0 || !wait_readable(fd_, kReadTimeoutMs)) return false;
  char buffer[65536];
  const ssize_t num_read = ::recv(fd_, buffer, sizeof buffer, 0);
  if (num_read <= 0) return false;
  in_.append(buffer, static_cast<size_t>(num_read));
  return true;
}

std::string RawClient::read_all() {
  while (fill()) {
  }
  return std::exchange(in_, {});
}

bool RawClient::closed_within(std::chrono::milliseconds time) {
  const auto deadline = std::chrono::steady_clock::now() + time;
  char buffer[4096];
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0 || !wait_readable(fd_, static_cast<int>(left.count()))) return false;
    if (::recv(fd_, buffer, sizeof buffer, 0) <= 0) return true;
  }
}

RawResponse RawClient::read_response(bool head_only) {
  size_t end = 0;
  while ((end = in_.find("\r\n\r\n")) == std::string::npos) {
    if (!fill()) return {};
  }
  RawResponse response = parse_response_head(std::string_view(in_).substr(0, end + 2));
  in_.erase(0, end + 4);
  if (head_only || response.status == 204 || response.status == 100) return response;
  if (response.headers.contains("content-length")) {
    const size_t size = std::stoul(response.headers["content-length"]);
    while (in_.size() < size) {
      if (!fill()) return {};
    }
    response.body = in_.substr(0, size);
    in_.erase(0, size);
  } else if (response.headers.contains("transfer-encoding")) {
    while (true) {
      size_t line_end = 0;
      while ((line_end = in_.find("\r\n")) == std::string::npos) {
        if (!fill()) return {};
      }
      const size_t size = std::stoul(in_.substr(0, line_end), nullptr, 16);
      while (in_.size() < line_end + 2 + size + 2) {
        if (!fill()) return {};
      }
      response.body += in_.substr(line_end + 2, size);
      in_.erase(0, line_end + 2 + size + 2);
      if (size == 0) break;
    }
  } else {
    response.body = read_all();
  }
  return response;
}

RawResponse fetch(uint16_t port, std::string_view request) {
  RawClient client(port);
  client.send(request);
  return client.read_response(request.starts_with("HEAD "));
}

std::string post_request(std::string_view path, std::string_view body, std::string_view headers) {
  return fmt::format(
      "POST {} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n{}Content-Length: "
      "{}\r\n\r\n{}",
      path, headers, body.size(), body);
}

std::string get_request(std::string_view path, std::string_view headers) {
  return fmt::format("GET {} HTTP/1.1\r\nHost: test\r\n{}\r\n", path, headers);
}

}  // namespace beryl::http
