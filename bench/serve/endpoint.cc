#include "bench/serve/endpoint.h"

#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "bench/load/http_client.h"

namespace beryl::load {

namespace asio = boost::asio;

base::Expected<Endpoint> parse_base_url(std::string_view url) {
  constexpr std::string_view kScheme = "http://";
  const std::string shown(url);
  if (!url.starts_with(kScheme)) {
    return base::invalid_argument("--base-url", shown + " does not start with http://");
  }
  url.remove_prefix(kScheme.size());
  Endpoint endpoint;
  const size_t slash = url.find('/');
  std::string_view authority = url.substr(0, slash);
  if (slash != std::string_view::npos) endpoint.path = url.substr(slash);
  while (endpoint.path.ends_with('/')) endpoint.path.pop_back();
  if (endpoint.path.ends_with("/v1")) endpoint.path.resize(endpoint.path.size() - 3);
  const size_t colon = authority.rfind(':');
  endpoint.host = authority.substr(0, colon);
  endpoint.port = 80;
  if (colon != std::string_view::npos) {
    const std::string_view port = authority.substr(colon + 1);
    const auto parsed = std::from_chars(port.data(), port.data() + port.size(), endpoint.port);
    if (parsed.ec != std::errc() || parsed.ptr != port.data() + port.size()) {
      return base::invalid_argument("--base-url", shown + " has no valid port");
    }
  }
  if (endpoint.host.empty()) return base::invalid_argument("--base-url", shown + " has no host");
  return endpoint;
}

std::string http_request(const Endpoint& endpoint, std::string_view path, std::string_view body) {
  std::string request =
      fmt::format("{} {}{} HTTP/1.1\r\nHost: {}:{}\r\n", body.empty() ? "GET" : "POST",
                  endpoint.path, path, endpoint.host, endpoint.port);
  if (!endpoint.api_key.empty()) {
    request += fmt::format("Authorization: Bearer {}\r\n", endpoint.api_key);
  }
  if (!body.empty()) {
    request += fmt::format("Content-Type: application/json\r\nContent-Length: {}\r\n", body.size());
  }
  request += "\r\n";
  request += body;
  return request;
}

asio::ip::tcp::endpoint resolve(asio::io_context& io, const Endpoint& endpoint) {
  return *asio::ip::tcp::resolver(io).resolve(endpoint.host, std::to_string(endpoint.port)).begin();
}

Reply fetch(const Endpoint& endpoint, std::string_view path, std::string_view body,
            std::chrono::milliseconds deadline) {
  asio::io_context io{1};
  HttpClient client(io, resolve(io, endpoint));
  const std::string request = http_request(endpoint, path, body);
  Reply reply;
  asio::co_spawn(
      io,
      [&]() -> asio::awaitable<void> {
        HttpClient::Answer answer = co_await client.send(request, true);
        reply = {answer.status, std::move(answer.body)};
      },
      asio::detached);
  io.run_for(deadline);
  client.close();
  io.restart();
  io.run_for(std::chrono::seconds{1});  // the cut exchange ends before the client goes
  return reply;
}

nlohmann::json fetch_json(const Endpoint& endpoint, std::string_view path, std::string_view body) {
  const Reply reply = fetch(endpoint, path, body);
  if (reply.status != 200) return nlohmann::json(nlohmann::json::value_t::discarded);
  return nlohmann::json::parse(reply.body, nullptr, false);
}

}  // namespace beryl::load
