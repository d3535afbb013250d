// One request as read from the wire. Views point into `head_text`, so a Request stays in place: the
// connection owns one and reuses it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace beryl::http {

struct HeaderField {
  std::string_view name;  // lower case
  std::string_view value;
};

struct Request {
  Request() = default;
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  // The value of the first field of this (lower-case) name.
  std::optional<std::string_view> header(std::string_view name) const {
    for (const HeaderField& field : headers) {
      if (field.name == name) return field.value;
    }
    return std::nullopt;
  }

  std::string head_text;  // request line and fields, as read (names in lower case)
  std::string_view method;
  std::string_view path;   // without the query
  std::string_view query;  // after '?', or empty
  int minor_version = 1;   // HTTP/1.x
  std::vector<HeaderField> headers;
  std::optional<uint64_t> content_length;
  bool chunked = false;
  bool keep_alive = true;
  bool expects_continue = false;

  std::string body;
  std::string path_param;  // what the * of the route matched, percent-decoded
  std::string request_id;  // X-Request-Id of the client where usable, else made here
};

}  // namespace beryl::http
