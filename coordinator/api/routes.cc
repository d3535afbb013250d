#include "coordinator/api/routes.h"

#include <functional>
#include <memory>
#include <utility>

#include "coordinator/api/handlers.h"

namespace beryl::api {
namespace {

using HandlersPtr = std::shared_ptr<Handlers>;
using Work = Handlers::Result (Handlers::*)(http::Exchange&);
using Info = http::Response (Handlers::*)() const;

http::Handler work(const HandlersPtr& handlers, Work method) {
  return [handlers, method](http::Exchange& exchange) { return ((*handlers).*method)(exchange); };
}

http::Handler info(const HandlersPtr& handlers, Info method) {
  return [handlers, method](http::Exchange&) -> Handlers::Result {
    co_return ((*handlers).*method)();
  };
}

http::Route probe(std::string path, http::Handler handler) {
  return {.method = "GET",
          .path = std::move(path),
          .handler = std::move(handler),
          .needs_key = false,
          .while_draining = true,
          .max_body_bytes = 0};
}

void add_probes(http::Router& router, const HandlersPtr& handlers) {
  const http::Handler ready = [handlers](http::Exchange& exchange) -> Handlers::Result {
    co_return handlers->ready(exchange.is_draining());
  };
  router.add(probe("/health", ready));
  router.add(probe("/health/ready", ready));
  router.add(probe("/health/live", info(handlers, &Handlers::live)));
  router.add(probe("/health/startup", info(handlers, &Handlers::startup)));
  router.add(probe("/ping", info(handlers, &Handlers::live)));
  router.add(probe("/version", info(handlers, &Handlers::version)));
}

void add_info(http::Router& router, const HandlersPtr& handlers, const ServerOptions& options) {
  const auto get = [&](std::string path, http::Handler handler) {
    http::Route route = probe(std::move(path), std::move(handler));
    route.needs_key = true;
    return route;
  };
  http::Route metrics = get("/metrics", info(handlers, &Handlers::metrics));
  metrics.needs_key = options.metrics_need_key;
  router.add(std::move(metrics));
  router.add(get("/v1/cluster/status", info(handlers, &Handlers::cluster_status)));
  router.add(get("/v1/models", info(handlers, &Handlers::list_models)));
  router.add(get("/v1/models/*", [handlers](http::Exchange& exchange) -> Handlers::Result {
    co_return handlers->one_model(exchange.request().path_param);
  }));
}

}  // namespace

http::ServerHooks register_routes(http::Router& router, ServerContext& context) {
  const auto handlers = std::make_shared<Handlers>(context);
  const auto post = [&](std::string path, Work method, size_t max_body_bytes) {
    router.add({.method = "POST",
                .path = std::move(path),
                .handler = work(handlers, method),
                .max_body_bytes = max_body_bytes});
  };
  const RequestLimits& limits = context.options.limits;
  post("/v1/chat/completions", &Handlers::chat_completions, limits.max_chat_body_bytes);
  post("/v1/completions", &Handlers::completions, limits.max_text_body_bytes);
  post("/tokenize", &Handlers::tokenize, limits.max_text_body_bytes);
  post("/detokenize", &Handlers::detokenize, limits.max_text_body_bytes);
  add_info(router, handlers, context.options);
  add_probes(router, handlers);
  http::ServerHooks hooks;
  hooks.format_error = [handlers](const base::Error& error) { return handlers->fail(error); };
  hooks.authenticate = [handlers](const http::Request& request) {
    return handlers->authenticate(request);
  };
  return hooks;
}

}  // namespace beryl::api
