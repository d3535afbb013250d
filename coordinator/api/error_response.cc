#include "coordinator/api/error_response.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "coordinator/api/json_writer.h"

namespace beryl::api {
namespace {

using base::ErrorCode;

struct Row {
  ErrorCode code;
  int status;
  std::string_view type;
  std::string_view default_reason;  // `code` of the error object where the error names none
};

constexpr Row kRows[] = {
    {ErrorCode::kInvalidArgument, 400, "invalid_request_error", ""},
    {ErrorCode::kUnauthenticated, 401, "authentication_error", "invalid_api_key"},
    {ErrorCode::kForbidden, 403, "permission_error", "forbidden"},
    {ErrorCode::kNotFound, 404, "not_found_error", "not_found"},
    {ErrorCode::kMethodNotAllowed, 405, "invalid_request_error", "method_not_allowed"},
    {ErrorCode::kTimeout, 408, "invalid_request_error", "request_timeout"},
    {ErrorCode::kPayloadTooLarge, 413, "invalid_request_error", "payload_too_large"},
    {ErrorCode::kUnsupportedMediaType, 415, "invalid_request_error", "unsupported_media_type"},
    {ErrorCode::kQueueFull, 429, "rate_limit_error", "server_overloaded"},
    {ErrorCode::kHeaderTooLarge, 431, "invalid_request_error", "header_too_large"},
    {ErrorCode::kInternal, 500, "server_error", "internal_error"},
    {ErrorCode::kNotImplemented, 501, "not_implemented_error", "not_implemented"},
    {ErrorCode::kUnavailable, 503, "server_error", "service_unavailable"},
    {ErrorCode::kDeadlineExceeded, 504, "server_error", "deadline_exceeded"},
    {ErrorCode::kCancelled, 499, "invalid_request_error", "cancelled"},
};

const Row& row_of(ErrorCode code) {
  const auto* row = std::find_if(std::begin(kRows), std::end(kRows),
                                 [code](const Row& other) { return other.code == code; });
  BERYL_ASSERT(row != std::end(kRows), "no status for error code {}", static_cast<int>(code));
  return *row;
}

void append_or_null(std::string_view text, std::string& out) {
  if (text.empty()) {
    out += "null";
  } else {
    append_lossy_string(text, out);
  }
}

}  // namespace

int http_status(ErrorCode code) {
  return row_of(code).status;
}

std::string error_json(const base::Error& error) {
  const Row& row = row_of(error.code);
  std::string json = "{\"error\":{\"message\":";
  append_lossy_string(error.message, json);
  json += ",\"type\":";
  append_string(row.type, json);
  json += ",\"param\":";
  // Of kMethodNotAllowed, `param` is the list for the Allow header.
  append_or_null(error.code == ErrorCode::kMethodNotAllowed ? std::string_view() : error.param,
                 json);
  json += ",\"code\":";
  append_or_null(error.reason.empty() ? row.default_reason : std::string_view(error.reason), json);
  json += "}}";
  return json;
}

http::Response error_response(const base::Error& error, double retry_after_s) {
  http::Response response;
  response.status = http_status(error.code);
  response.body = error_json(error);
  switch (error.code) {
    case ErrorCode::kUnauthenticated:
      response.headers.emplace_back("WWW-Authenticate", "Bearer");
      break;
    case ErrorCode::kMethodNotAllowed:
      response.headers.emplace_back("Allow", error.param);
      break;
    case ErrorCode::kQueueFull:
    case ErrorCode::kUnavailable:
      response.headers.emplace_back(
          "Retry-After",
          fmt::format("{}", static_cast<int>(std::ceil(std::clamp(retry_after_s, 1.0, 120.0)))));
      break;
    case ErrorCode::kInternal:
    case ErrorCode::kNotImplemented:
      // Clients repeat any 5xx otherwise; the same request would fail again.
      response.headers.emplace_back("x-should-retry", "false");
      break;
    default:
      break;
  }
  return response;
}

}  // namespace beryl::api
