// How a server is set up, and what it asks of the layer above.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "coordinator/http/limits.h"
#include "coordinator/http/request.h"
#include "coordinator/http/response.h"
#include "parallel/base/expected.h"

namespace beryl::http {

struct CorsOptions {
  // Exact origins, or "*" alone. Empty: no CORS. Credentials are never allowed.
  std::vector<std::string> allowed_origins;
  std::string allowed_methods = "GET, POST, OPTIONS";
  std::string allowed_headers = "Authorization, Content-Type, X-Request-Id, X-Api-Key";
};

struct ServerConfig {
  std::string host = "127.0.0.1";
  uint16_t port = 8000;  // 0: any free one
  size_t num_io_threads = 2;
  size_t num_pool_threads = 2;
  size_t num_slow_pool_threads = 4;  // each may hold one decoded picture
  Limits limits;
  CorsOptions cors;
};

// Must be thread-safe.
struct ServerHooks {
  // Error -> answer, in the form that the API uses.
  std::function<Response(const base::Error&)> format_error;
  // For routes that need a key and for unknown paths, before the body is read.
  std::function<base::Status(const Request&)> authenticate;
};

}  // namespace beryl::http
