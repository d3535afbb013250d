// The table of routes. Also what tests walk: every route says whether it needs an API key.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/http/exchange.h"
#include "coordinator/http/response.h"

namespace beryl::http {

using Handler = std::function<boost::asio::awaitable<Response>(Exchange&)>;

struct Route {
  std::string method;
  std::string path;  // exact, or with "*" as its end: any non-empty rest, handed over decoded
  Handler handler;
  bool needs_key = true;
  bool while_draining = false;  // answered also while the server shuts down (probes, metrics)
  size_t max_body_bytes = 0;    // 0: Limits::default_body_bytes
};

class Router {
 public:
  struct Match {
    const Route* route = nullptr;
    std::string path_param;
    std::string allowed_methods;  // of the path, where only the method did not match
  };

  // HEAD is served by the GET route.
  void add(Route route) { routes_.push_back(std::move(route)); }
  Match find(std::string_view method, std::string_view path) const;
  const std::vector<Route>& routes() const noexcept { return routes_; }

 private:
  std::vector<Route> routes_;
};

}  // namespace beryl::http
