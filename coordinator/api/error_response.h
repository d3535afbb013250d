// Errors in the form that clients of the OpenAI API read, and the one table of HTTP statuses.
#pragma once

#include <string>

#include "coordinator/http/response.h"
#include "parallel/base/expected.h"

namespace beryl::api {

int http_status(base::ErrorCode code);

// {"error":{"message","type","param","code"}}, always all four keys.
std::string error_json(const base::Error& error);

// `retry_after_s` goes out with 429 and 503.
http::Response error_response(const base::Error& error, double retry_after_s);

}  // namespace beryl::api
