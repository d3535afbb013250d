// A web server for tests: answers by path with fixed bytes, or never.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <thread>

namespace beryl::media {

class WebServer {
 public:
  using Responses = std::map<std::string, std::string>;

  // Raw responses by path ("/a.png"). A path that is not listed gets 404; an empty response means
  // that the connection is held open in silence. Listens on 127.0.0.1.
  explicit WebServer(Responses responses);
  ~WebServer();
  WebServer(const WebServer&) = delete;
  WebServer& operator=(const WebServer&) = delete;

  uint16_t port() const { return port_; }
  std::string url(const std::string& path, const std::string& host = "127.0.0.1") const {
    return "http://" + host + ":" + std::to_string(port_) + path;
  }
  int num_requests() const { return num_requests_; }

 private:
  void run();
  void answer(int client) const;

  Responses responses_;
  int listener_ = -1;
  uint16_t port_ = 0;
  std::atomic<bool> stopping_{false};
  std::atomic<int> num_requests_{0};
  std::thread thread_;
};

std::string ok_response(const std::string& body);
std::string redirect_response(const std::string& location);

}  // namespace beryl::media
