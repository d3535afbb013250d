// A client that writes and reads bytes as given, for tests of the HTTP layer. Every read has a time
// limit.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace beryl::http {

struct RawResponse {
  int status = 0;                              // 0: the connection ended, or nothing came in time
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // without chunk framing
};

class RawClient {
 public:
  explicit RawClient(uint16_t port, int receive_buffer_bytes = 0);
  ~RawClient();
  RawClient(RawClient&& other) noexcept;
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  // False if the peer does not take it.
  bool send(std::string_view bytes);
  // The next whole response, of Content-Length, chunked, or up to the end of the connection.
  RawResponse read_response(bool head_only = false);
  // Appends what arrives next; false at the end of the connection or of the time.
  bool read_some(std::string& out);
  // Everything up to the end of the connection.
  std::string read_all();
  // True if the peer closes within `time`, whatever it sends before.
  bool closed_within(std::chrono::milliseconds time);

  void shutdown_send();
  // Ends the connection with a reset.
  void reset();
  void close();

 private:
  bool fill();

  int fd_ = -1;
  std::string in_;
};

// One request on a connection of its own.
RawResponse fetch(uint16_t port, std::string_view request);
std::string post_request(std::string_view path, std::string_view body,
                         std::string_view headers = "");
std::string get_request(std::string_view path, std::string_view headers = "");

}  // namespace beryl::http
