#include "coordinator/http/response.h"

#include <fmt/format.h>

#include <iterator>

namespace beryl::http {
namespace {

void append_common(const HeadContext& context, std::string& out) {
  out += "Date: ";
  out += context.date;
  out += "\r\nX-Request-Id: ";
  out += context.request_id;
  if (!context.keep_alive) {
    out += "\r\nConnection: close";
  } else if (context.minor_version == 0) {
    out += "\r\nConnection: keep-alive";
  }
  out += "\r\nX-Content-Type-Options: nosniff\r\n";
}

void append_fields(const HeaderFields& headers, std::string& out) {
  for (const auto& [name, value] : headers) {
    out += name;
    out += ": ";
    out += value;
    out += "\r\n";
  }
}

}  // namespace

std::string_view status_text(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "Unknown";
  }
}

void append_head(const Response& response, const HeadContext& context, std::string& out) {
  fmt::format_to(std::back_inserter(out), "HTTP/1.1 {} {}\r\n", response.status,
                 status_text(response.status));
  if (response.status != 204) {
    fmt::format_to(std::back_inserter(out), "Content-Type: {}\r\nContent-Length: {}\r\n",
                   response.content_type, response.body.size());
  }
  append_common(context, out);
  append_fields(response.headers, out);
  out += "\r\n";
}

void append_stream_head(const HeaderFields& headers, const HeadContext& context, std::string& out) {
  out +=
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
      "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n";
  if (context.minor_version == 1) out += "Transfer-Encoding: chunked\r\n";
  append_common(context, out);
  append_fields(headers, out);
  out += "\r\n";
}

}  // namespace beryl::http
