// Endpoint: where the server under test is, and single requests to it for setting up.
#pragma once

#include <boost/asio.hpp>
#include <chrono>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "parallel/base/expected.h"

namespace beryl::load {

struct Endpoint {
  std::string host = "127.0.0.1";
  uint16_t port = 8000;
  std::string path;     // before /v1, without a slash at the end
  std::string api_key;  // empty: none
};

// "http://host:port[/path]"; a /v1 at the end is left out.
base::Expected<Endpoint> parse_base_url(std::string_view url);

// A whole HTTP request. An empty body makes it a GET.
std::string http_request(const Endpoint& endpoint, std::string_view path, std::string_view body);

boost::asio::ip::tcp::endpoint resolve(boost::asio::io_context& io, const Endpoint& endpoint);

struct Reply {
  int status = 0;  // 0: no answer within the deadline
  std::string body;
};

constexpr std::chrono::seconds kSetUpDeadline{60};

// Connects, sends and waits for the whole answer.
Reply fetch(const Endpoint& endpoint, std::string_view path, std::string_view body = {},
            std::chrono::milliseconds deadline = kSetUpDeadline);

// The body of a 200 as JSON; a discarded value for anything else.
nlohmann::json fetch_json(const Endpoint& endpoint, std::string_view path,
                          std::string_view body = {});

}  // namespace beryl::load
