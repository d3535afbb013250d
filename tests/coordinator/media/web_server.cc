#include "tests/coordinator/media/web_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <stdexcept>
#include <utility>
#include <vector>

namespace beryl::media {

WebServer::WebServer(Responses responses)
    : responses_(std::move(responses)), listener_(socket(AF_INET, SOCK_STREAM, 0)) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  if (bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      listen(listener_, 16) != 0 ||
      getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    throw std::runtime_error("the test web server cannot listen");
  }
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { run(); });
}

WebServer::~WebServer() {
  stopping_ = true;
  thread_.join();
  close(listener_);
}

void WebServer::run() {
  std::vector<int> held;
  while (!stopping_) {
    pollfd poll_for = {listener_, POLLIN, 0};
    constexpr int kPollMs = 20;
    if (poll(&poll_for, 1, kPollMs) != 1) continue;
    const int client = accept(listener_, nullptr, nullptr);
    ++num_requests_;
    answer(client);
    held.push_back(client);
  }
  for (const int client : held) close(client);
}

void WebServer::answer(int client) const {
  std::string request(4096, '\0');
  const ssize_t size = recv(client, request.data(), request.size(), 0);
  request.resize(static_cast<size_t>(size > 0 ? size : 0));
  const size_t begin = request.find(' ') + 1;
  const std::string path = request.substr(begin, request.find(' ', begin) - begin);
  const auto found = responses_.find(path);
  const std::string response =
      found == responses_.end()
          ? "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
          : found->second;
  if (response.empty()) return;
  (void)send(client, response.data(), response.size(), MSG_NOSIGNAL);
  shutdown(client, SHUT_WR);
}

std::string ok_response(const std::string& body) {
  return "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}

std::string redirect_response(const std::string& location) {
  return "HTTP/1.1 302 Found\r\nConnection: close\r\nContent-Length: 0\r\nLocation: " + location +
         "\r\n\r\n";
}

}  // namespace beryl::media
