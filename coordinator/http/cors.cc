#include "coordinator/http/cors.h"

#include <algorithm>

namespace beryl::http {

bool is_preflight(const CorsOptions& options, const Request& request) {
  return !options.allowed_origins.empty() && request.method == "OPTIONS" &&
         request.header("origin") && request.header("access-control-request-method");
}

Response preflight_response(const CorsOptions& options, const Request& request) {
  Response response;
  response.status = 204;
  add_cors_headers(options, request, response.headers);
  if (!response.headers.empty()) {
    response.headers.emplace_back("Access-Control-Allow-Methods", options.allowed_methods);
    response.headers.emplace_back("Access-Control-Allow-Headers", options.allowed_headers);
    response.headers.emplace_back("Access-Control-Max-Age", "600");
  }
  return response;
}

void add_cors_headers(const CorsOptions& options, const Request& request, HeaderFields& headers) {
  if (options.allowed_origins.empty()) return;
  const auto origin = request.header("origin");
  if (!origin) return;
  const auto& allowed = options.allowed_origins;
  if (std::find(allowed.begin(), allowed.end(), "*") != allowed.end()) {
    headers.emplace_back("Access-Control-Allow-Origin", "*");
  } else if (std::find(allowed.begin(), allowed.end(), *origin) != allowed.end()) {
    headers.emplace_back("Access-Control-Allow-Origin", std::string(*origin));
    headers.emplace_back("Vary", "Origin");
  }
}

}  // namespace beryl::http
