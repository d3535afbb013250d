#include "coordinator/http/head_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string>

namespace beryl::http {
namespace {

using base::Error;
using base::ErrorCode;
using base::Status;

Error bad_head(std::string message) {
  return base::invalid_argument({}, std::move(message));
}

constexpr bool is_token_char(unsigned char c) {
  if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return true;
  constexpr std::string_view kOthers = "!#$%&'*+-.^`|~";  // no '_': gateways rewrite it to '-'
  return kOthers.find(static_cast<char>(c)) != std::string_view::npos;
}

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_token_char);
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), [](char c) { return lower(c); });
  return result;
}

std::string_view trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

Status check_target(std::string_view target, const Limits& limits) {
  if (target.empty() || target[0] != '/') {
    return bad_head("The request target must be a path that begins with '/'.");
  }
  if (target.size() > limits.max_target_bytes) {
    return Error{
        ErrorCode::kHeaderTooLarge,
        fmt::format("The request target is longer than {} bytes.", limits.max_target_bytes),
        {},
        {}};
  }
  const bool visible = std::all_of(target.begin(), target.end(), [](unsigned char c) {
    return c > 0x20 && c < 0x7f && c != '#' && c != '\\';
  });
  if (!visible) return bad_head("The request target has characters that must be percent-encoded.");
  return Status::ok();
}

Status parse_request_line(std::string_view line, const Limits& limits, Request& request) {
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) {
    return bad_head("The request line must be METHOD TARGET HTTP/1.1.");
  }
  request.method = line.substr(0, first);
  const std::string_view target = line.substr(first + 1, last - first - 1);
  const std::string_view version = line.substr(last + 1);
  if (!is_token(request.method)) return bad_head("The request method is not a token.");
  if (version != "HTTP/1.1" && version != "HTTP/1.0") {
    return bad_head("Only HTTP/1.1 and HTTP/1.0 are served here.");
  }
  request.minor_version = version.back() - '0';
  if (Status status = check_target(target, limits); !status) return status;
  const size_t mark = target.find('?');
  request.path = target.substr(0, mark);
  request.query = mark == std::string_view::npos ? std::string_view{} : target.substr(mark + 1);
  return Status::ok();
}

// Splits "name: value" and makes the name lower-case in place.
Status parse_field(char* begin, size_t size, Request& request) {
  const std::string_view line(begin, size);
  if (line[0] == ' ' || line[0] == '\t') {
    return bad_head("Header lines must not be folded.");
  }
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) {
    return bad_head("A header name is missing or has characters that are not allowed.");
  }
  const std::string_view value = trim(line.substr(colon + 1));
  const bool clean = std::all_of(value.begin(), value.end(), [](unsigned char c) {
    return c == '\t' || (c >= 0x20 && c != 0x7f);
  });
  if (!clean) return bad_head("A header value has control characters.");
  std::transform(begin, begin + colon, begin, [](char c) { return lower(c); });
  request.headers.push_back({line.substr(0, colon), value});
  return Status::ok();
}

Status check_unique_fields(const Request& request) {
  constexpr std::array<std::string_view, 10> kSingle = {
      "host",   "content-length", "transfer-encoding", "content-type", "content-encoding",
      "expect", "authorization",  "x-api-key",         "x-request-id", "x-request-timeout"};
  for (std::string_view name : kSingle) {
    const auto count = std::count_if(request.headers.begin(), request.headers.end(),
                                     [&](const HeaderField& field) { return field.name == name; });
    if (count > 1) return bad_head(fmt::format("The header {} is given more than once.", name));
  }
  return Status::ok();
}

Status check_host(const Request& request) {
  const auto host = request.header("host");
  if (!host) {
    if (request.minor_version == 0) return Status::ok();
    return bad_head("The Host header is missing.");
  }
  const bool plausible = std::all_of(host->begin(), host->end(), [](unsigned char c) {
    return c > 0x20 && c < 0x7f &&
           std::string_view("/\\@,?#\"<>").find(static_cast<char>(c)) == std::string_view::npos;
  });
  if (!plausible) return bad_head("The Host header is not a host name.");
  return Status::ok();
}

Status parse_transfer_encoding(std::string_view value, Request& request) {
  if (request.minor_version == 0) {
    return bad_head("HTTP/1.0 has no Transfer-Encoding.");
  }
  if (request.content_length) {
    return bad_head("Content-Length and Transfer-Encoding exclude each other.");
  }
  const std::string coding = lower(value);
  if (coding == "chunked") {
    request.chunked = true;
    return Status::ok();
  }
  if (coding == "gzip" || coding == "deflate" || coding == "compress" || coding == "br") {
    return Error{
        ErrorCode::kNotImplemented, "Only the transfer coding chunked is supported.", {}, {}};
  }
  return bad_head("Only the transfer coding chunked is supported.");
}

Status parse_framing(Request& request) {
  if (const auto value = request.header("content-length")) {
    uint64_t length = 0;
    const auto [end, error] = std::from_chars(value->data(), value->data() + value->size(), length);
    if (value->empty() || error != std::errc{} || end != value->data() + value->size()) {
      return bad_head("Content-Length must be one decimal number.");
    }
    request.content_length = length;
  }
  if (const auto value = request.header("transfer-encoding")) {
    if (Status status = parse_transfer_encoding(*value, request); !status) return status;
  }
  const bool has_body = request.chunked || request.content_length.value_or(0) > 0;
  if (has_body && (request.method == "GET" || request.method == "HEAD")) {
    return bad_head("GET and HEAD must not have a body.");
  }
  return Status::ok();
}

Status parse_expect(Request& request) {
  const auto value = request.header("expect");
  if (!value || request.minor_version == 0) return Status::ok();
  if (lower(*value) != "100-continue") {
    return bad_head("Only 'Expect: 100-continue' is supported.");
  }
  request.expects_continue = request.chunked || request.content_length.value_or(0) > 0;
  return Status::ok();
}

void parse_connection(Request& request) {
  request.keep_alive = request.minor_version == 1;
  for (const HeaderField& field : request.headers) {
    if (field.name != "connection") continue;
    const std::string value = lower(field.value);
    if (value.find("close") != std::string::npos) {
      request.keep_alive = false;
      return;
    }
    if (value.find("keep-alive") != std::string::npos) request.keep_alive = true;
  }
}

void reset(Request& request) {
  request.headers.clear();
  request.content_length.reset();
  request.chunked = false;
  request.expects_continue = false;
  request.body.clear();
  request.path_param.clear();
  request.request_id.clear();
}

Status parse_lines(const Limits& limits, Request& request) {
  char* const text = request.head_text.data();
  const size_t size = request.head_text.size();
  size_t begin = 0;
  for (size_t line_idx = 0; begin < size; ++line_idx) {
    const size_t end = request.head_text.find("\r\n", begin);
    if (end == std::string::npos) return bad_head("A header line does not end with CR LF.");
    if (end == begin) break;
    if (request.headers.size() >= limits.max_num_headers) {
      return Error{ErrorCode::kHeaderTooLarge,
                   fmt::format("There are more than {} header lines.", limits.max_num_headers),
                   {},
                   {}};
    }
    Status status = line_idx == 0 ? parse_request_line({text, end}, limits, request)
                                  : parse_field(text + begin, end - begin, request);
    if (!status) return status;
    begin = end + 2;
  }
  if (begin == 0) return bad_head("The request begins with an empty line.");
  return Status::ok();
}

}  // namespace

HeadScanner::State HeadScanner::scan(std::string_view data) {
  while (true) {
    const size_t end = data.find('\n', scanned_);
    if (end == std::string_view::npos) {
      scanned_ = data.size();
      return State::kMore;
    }
    if (end == line_begin_ || data[end - 1] != '\r') return State::kBad;
    const bool is_empty = end == line_begin_ + 1;
    line_begin_ = scanned_ = end + 1;
    if (is_empty) return State::kComplete;
  }
}

base::Status parse_head(std::string_view head, const Limits& limits, Request& request) {
  reset(request);
  request.head_text.assign(head);
  if (head.find('\0') != std::string_view::npos)
    return bad_head("A header has control characters.");
  if (Status status = parse_lines(limits, request); !status) return status;
  if (Status status = check_unique_fields(request); !status) return status;
  if (Status status = check_host(request); !status) return status;
  if (Status status = parse_framing(request); !status) return status;
  if (Status status = parse_expect(request); !status) return status;
  parse_connection(request);
  return Status::ok();
}

}  // namespace beryl::http
