// Puts the API on an HTTP server.
#pragma once

#include "coordinator/api/server_context.h"
#include "coordinator/http/router.h"
#include "coordinator/http/server_config.h"

namespace beryl::api {

// Adds every route to `router` and returns the hooks for the server. `context` must outlive both.
http::ServerHooks register_routes(http::Router& router, ServerContext& context);

}  // namespace beryl::api
