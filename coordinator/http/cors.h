// Cross-origin headers, only where configured.
#pragma once

#include "coordinator/http/request.h"
#include "coordinator/http/response.h"
#include "coordinator/http/server_config.h"

namespace beryl::http {

bool is_preflight(const CorsOptions& options, const Request& request);
Response preflight_response(const CorsOptions& options, const Request& request);
// Adds what an answer to `request` needs; nothing where the origin is not allowed.
void add_cors_headers(const CorsOptions& options, const Request& request, HeaderFields& headers);

}  // namespace beryl::http
