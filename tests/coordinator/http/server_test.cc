#include "coordinator/http/server.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/coordinator/http/raw_client.h"

namespace beryl::http {
namespace {

namespace asio = boost::asio;
using base::ErrorCode;
using std::chrono::milliseconds;

int status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kUnauthenticated:
      return 401;
    case ErrorCode::kNotFound:
      return 404;
    case ErrorCode::kMethodNotAllowed:
      return 405;
    case ErrorCode::kTimeout:
      return 408;
    case ErrorCode::kPayloadTooLarge:
      return 413;
    case ErrorCode::kUnsupportedMediaType:
      return 415;
    case ErrorCode::kQueueFull:
      return 429;
    case ErrorCode::kHeaderTooLarge:
      return 431;
    case ErrorCode::kInternal:
      return 500;
    case ErrorCode::kNotImplemented:
      return 501;
    case ErrorCode::kUnavailable:
      return 503;
    default:
      return 400;
  }
}

// A server with a few routes whose behaviour the tests steer.
class ServerTest : public ::testing::Test {
 protected:
  void start(ServerConfig config = {}) {
    config.port = 0;
    config.num_pool_threads = 1;
    Router router;
    add_routes(router);
    ServerHooks hooks;
    hooks.format_error = [](const base::Error& error) {
      Response response;
      response.status = status_of(error.code);
      response.body = error.message;
      return response;
    };
    hooks.authenticate = [](const Request& request) -> base::Status {
      if (request.header("authorization").value_or("Bearer ok") == "Bearer ok") return {};
      return base::Error{ErrorCode::kUnauthenticated, "no", {}, {}};
    };
    server_ = std::make_unique<Server>(Server::Parts{config, hooks, std::move(router)},
                                       metrics_.http(), logger_);
    ASSERT_TRUE(server_->start().is_ok());
  }

  void add_routes(Router& router) {
    router.add(
        {.method = "GET", .path = "/hello", .handler = [](Exchange&) -> asio::awaitable<Response> {
           Response response;
           response.body = "hello";
           co_return response;
         }});
    router.add({.method = "POST",
                .path = "/echo",
                .handler = [](Exchange& exchange) -> asio::awaitable<Response> {
                  Response response;
                  response.body = exchange.request().body;
                  response.headers.emplace_back(
                      "X-Auth",
                      std::string(exchange.request().header("authorization").value_or("")));
                  co_return response;
                },
                .max_body_bytes = 10'000});
    router.add({.method = "GET",
                .path = "/item/*",
                .handler = [](Exchange& exchange) -> asio::awaitable<Response> {
                  Response response;
                  response.body = exchange.request().path_param;
                  co_return response;
                }});
    router.add({.method = "GET",
                .path = "/live",
                .handler = [](Exchange&) -> asio::awaitable<Response> { co_return Response{}; },
                .needs_key = false,
                .while_draining = true});
    router.add(
        {.method = "GET", .path = "/throw", .handler = [](Exchange&) -> asio::awaitable<Response> {
           throw std::runtime_error("secret 0xdeadbeef");
           co_return Response{};
         }});
    // Waits until the client has gone or the test lets it end.
    router.add({.method = "POST", .path = "/wait", .handler = [this](Exchange& exchange) {
                  return wait(exchange);
                }});
    router.add({.method = "POST", .path = "/stream", .handler = [this](Exchange& exchange) {
                  return stream(exchange);
                }});
  }

  asio::awaitable<Response> wait(Exchange& exchange) {
    OneShotEvent gone(exchange.executor());
    exchange.on_disconnect([&] {
      ++num_gone_;
      gone.set();
    });
    ++num_waiting_;
    while (!let_go_ && !gone.is_set()) {
      co_await gone.wait_until(Clock::now() + milliseconds(5));
    }
    --num_waiting_;
    Response response;
    response.body = exchange.request().body;
    co_return response;
  }

  // Sends `num_events_` events of 1 KB as fast as the client takes them.
  asio::awaitable<Response> stream(Exchange& exchange) {
    SseStream& stream = exchange.start_stream({});
    OneShotEvent gone(exchange.executor());
    stream.on_failed([&] { gone.set(); });
    exchange.on_disconnect([&] { gone.set(); });
    for (int i = 0; i < num_events_ && !gone.is_set(); ++i) {
      while (stream.congested() && !gone.is_set() && !stream.overflowed()) {
        congested_ = true;
        co_await gone.wait_until(Clock::now() + milliseconds(2));
      }
      stream.buffer() += fmt::format("data: {} {}\n\n", i, std::string(1000, 'x'));
      stream.flush();
    }
    stream_failed_ = stream.failed() || gone.is_set();
    ++num_streams_ended_;
    Response response;
    response.streamed = true;
    co_return response;
  }

  bool eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 500; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(milliseconds(10));
    }
    return false;
  }

  uint16_t port() const { return server_->port(); }

  metrics::Registry registry_;
  metrics::ServerMetrics metrics_{registry_, "m"};
  base::Logger logger_{"test", base::LogLevel::kError};
  std::atomic<bool> let_go_{false};
  std::atomic<int> num_waiting_{0};
  std::atomic<int> num_gone_{0};
  std::atomic<int> num_events_{10};
  std::atomic<int> num_streams_ended_{0};
  std::atomic<bool> stream_failed_{false};
  std::atomic<bool> congested_{false};
  std::unique_ptr<Server> server_;
};

TEST_F(ServerTest, AnswersOnAConnectionThatStaysOpen) {
  start();
  RawClient client(port());
  for (int i = 0; i < 3; ++i) {
    client.send(get_request("/hello", "X-Request-Id: abc\r\n"));
    const RawResponse response = client.read_response();
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.body, "hello");
    EXPECT_EQ(response.headers.at("x-request-id"), "abc");
    EXPECT_TRUE(response.headers.contains("date"));
  }
}

TEST_F(ServerTest, AnswersPipelinedRequestsInOrder) {
  start();
  RawClient client(port());
  std::string requests;
  for (int i = 0; i < 200; ++i) requests += post_request("/echo", std::to_string(i));
  client.send(requests);
  for (int i = 0; i < 200; ++i) EXPECT_EQ(client.read_response().body, std::to_string(i));
}

TEST_F(ServerTest, KeepsPipelinedRequestsThatArriveWhileAHandlerWaits) {
  start();
  RawClient client(port());
  client.send(post_request("/wait", "first"));
  ASSERT_TRUE(eventually([&] { return num_waiting_ == 1; }));
  for (int i = 0; i < 20; ++i) client.send(post_request("/echo", std::to_string(i)));
  std::this_thread::sleep_for(milliseconds(30));
  let_go_ = true;
  EXPECT_EQ(client.read_response().body, "first");
  for (int i = 0; i < 20; ++i) EXPECT_EQ(client.read_response().body, std::to_string(i));
  EXPECT_EQ(num_gone_, 0);
}

TEST_F(ServerTest, ReadsRequestsByteByByte) {
  start();
  RawClient client(port());
  for (const char c : post_request("/echo", "abc")) client.send({&c, 1});
  EXPECT_EQ(client.read_response().body, "abc");
}

TEST_F(ServerTest, ReadsChunkedBodiesAndIgnoresTrailers) {
  start();
  RawClient client(port());
  client.send(
      "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
      "3\r\nabc\r\n2\r\nde\r\n0\r\nAuthorization: Bearer bad\r\n\r\n");
  const RawResponse response = client.read_response();
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body, "abcde");
  EXPECT_EQ(response.headers.at("x-auth"), "");
  client.send(get_request("/hello"));
  EXPECT_EQ(client.read_response().body, "hello");
}

TEST_F(ServerTest, ClosesAfterFramingErrors) {
  start();
  const std::vector<std::pair<std::string, int>> cases = {
      {"GET / HTTP/1.1\n\n", 400},
      {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400},
      {"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\nx", 501},
      {"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\n", 400},
      {"GET /hello HTTP/1.1\r\n\r\n", 400},
      {"GET /" + std::string(40'000, 'a'), 431},
      {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10001\r\n\r\n", 413},
      {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999\r\n\r\n", 413},
      {"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2711\r\n", 413},
      {"POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 405},
      {"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 404},
      {post_request("/echo", "x", "Content-Encoding: gzip\r\n"), 415},
      {post_request("/echo", "x", "Authorization: Bearer bad\r\n"), 401},
  };
  for (const auto& [request, status] : cases) {
    RawClient client(port());
    // What follows must never be read as a second request.
    client.send(request + get_request("/hello"));
    const RawResponse response = client.read_response();
    EXPECT_EQ(response.status, status) << request.substr(0, 100);
    EXPECT_EQ(response.headers.contains("connection"), true) << request.substr(0, 100);
    EXPECT_EQ(client.read_all(), "") << request.substr(0, 100);
  }
}

TEST_F(ServerTest, GoesOnAfterErrorsWithClearFraming) {
  start();
  RawClient client(port());
  client.send(get_request("/nowhere") + get_request("/echo") + get_request("/hello"));
  EXPECT_EQ(client.read_response().status, 404);
  EXPECT_EQ(client.read_response().status, 405);
  EXPECT_EQ(client.read_response().body, "hello");
}

TEST_F(ServerTest, AnswersExpectOnlyAfterItsChecks) {
  start();
  RawClient client(port());
  const std::string head =
      "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: ";
  client.send(head + "3\r\n\r\n");
  EXPECT_EQ(client.read_response().status, 100);
  client.send("abc");
  EXPECT_EQ(client.read_response().body, "abc");
  client.send(head + "20000\r\n\r\n");
  EXPECT_EQ(client.read_response().status, 413);
  RawClient other(port());
  other.send(head + "3\r\nAuthorization: Bearer bad\r\n\r\n");
  EXPECT_EQ(other.read_response().status, 401);
}

TEST_F(ServerTest, ClientReadsTheErrorThoughItIsStillSending) {
  start();
  RawClient client(port());
  client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n");
  const std::string part(50'000, 'x');
  for (int i = 0; i < 18; ++i) client.send(part);
  EXPECT_EQ(client.read_response().status, 413);
}

TEST_F(ServerTest, ServesHeadAndOldClients) {
  start();
  RawClient client(port());
  client.send("HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n");
  const RawResponse head = client.read_response(true);
  EXPECT_EQ(head.headers.at("content-length"), "5");
  client.send(get_request("/hello"));
  EXPECT_EQ(client.read_response().body, "hello");
  RawClient old(port());
  old.send("GET /hello HTTP/1.0\r\n\r\n");
  EXPECT_TRUE(old.read_all().ends_with("\r\n\r\nhello"));
}

TEST_F(ServerTest, DecodesPathParameters) {
  start();
  EXPECT_EQ(fetch(port(), get_request("/item/a%2Fb/c")).body, "a/b/c");
  EXPECT_EQ(fetch(port(), get_request("/item/a%zz")).status, 404);
  EXPECT_EQ(fetch(port(), get_request("/item/a%00")).status, 404);
  EXPECT_EQ(fetch(port(), get_request("/item/")).status, 404);
}

TEST_F(ServerTest, HidesWhatAHandlerThrows) {
  start();
  const RawResponse response = fetch(port(), get_request("/throw"));
  EXPECT_EQ(response.status, 500);
  EXPECT_EQ(response.body.find("secret"), std::string::npos);
}

TEST_F(ServerTest, TimesOutSlowClients) {
  ServerConfig config;
  config.limits.header_timeout = milliseconds(200);
  config.limits.idle_timeout = milliseconds(300);
  config.limits.body_grace = milliseconds(200);
  start(config);
  RawClient head(port());
  head.send("GET /hello HT");
  EXPECT_EQ(head.read_response().status, 408);
  RawClient body(port());
  body.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
  EXPECT_EQ(body.read_response().status, 408);
  RawClient idle(port());
  idle.send(get_request("/hello"));
  EXPECT_EQ(idle.read_response().status, 200);
  EXPECT_TRUE(idle.closed_within(milliseconds(1000)));
}

TEST_F(ServerTest, NoticesThatAClientHasGone) {
  start();
  for (const bool by_reset : {false, true}) {
    num_gone_ = 0;
    std::vector<RawClient> clients;
    for (int i = 0; i < 50; ++i) {
      clients.emplace_back(port());
      clients.back().send(post_request("/wait", "x"));
    }
    ASSERT_TRUE(eventually([&] { return num_waiting_ == 50; }));
    for (RawClient& client : clients) by_reset ? client.reset() : client.close();
    EXPECT_TRUE(eventually([&] { return num_gone_ == 50 && num_waiting_ == 0; })) << by_reset;
  }
  EXPECT_TRUE(eventually([&] { return metrics_.http().connections.value() == 0; }));
}

TEST_F(ServerTest, StreamsEventsInChunks) {
  start();
  RawClient client(port());
  client.send(post_request("/stream", ""));
  const RawResponse response = client.read_response();
  EXPECT_EQ(response.headers.at("content-type"), "text/event-stream; charset=utf-8");
  EXPECT_TRUE(response.body.starts_with("data: 0 xxx"));
  EXPECT_NE(response.body.find("data: 9 xxx"), std::string::npos);
  client.send(get_request("/hello"));
  EXPECT_EQ(client.read_response().body, "hello");
}

TEST_F(ServerTest, StreamsToOldClientsUntilTheConnectionEnds) {
  start();
  RawClient client(port());
  client.send("POST /stream HTTP/1.0\r\n\r\n");
  const std::string all = client.read_all();
  EXPECT_NE(all.find("\r\n\r\ndata: 0 xxx"), std::string::npos);
  EXPECT_TRUE(all.ends_with("x\n\n"));
}

TEST_F(ServerTest, CutsAStreamWhoseClientDoesNotRead) {
  ServerConfig config;
  config.limits.write_stall = milliseconds(300);
  config.limits.send_buffer_bytes = 4096;
  num_events_ = 1'000'000;
  start(config);
  RawClient client(port(), 4096);
  client.send(post_request("/stream", ""));
  EXPECT_TRUE(eventually([&] { return num_streams_ended_ == 1; }));
  EXPECT_TRUE(congested_);
  EXPECT_TRUE(stream_failed_);
  EXPECT_TRUE(eventually([&] { return metrics_.http().sse_slow_client_closes.value() == 1; }));
}

TEST_F(ServerTest, LimitsConnections) {
  ServerConfig config;
  config.limits.max_connections = 5;
  start(config);
  std::vector<RawClient> clients;
  for (int i = 0; i < 5; ++i) {
    clients.emplace_back(port());
    clients.back().send(get_request("/hello"));
    EXPECT_EQ(clients.back().read_response().status, 200);
  }
  EXPECT_EQ(RawClient(port()).read_response().status, 503);
  clients.pop_back();
  EXPECT_TRUE(eventually([&] { return fetch(port(), get_request("/hello")).status == 200; }));
}

TEST_F(ServerTest, LimitsConnectionsOfAnAddressAndBodyBytes) {
  ServerConfig config;
  config.limits.max_connections_per_address = 2;
  config.limits.max_body_bytes_in_flight = 1000;
  start(config);
  RawClient first(port());
  RawClient second(port());
  first.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n");
  ASSERT_TRUE(eventually([&] { return metrics_.http().body_bytes_in_flight.value() == 900; }));
  second.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n");
  EXPECT_EQ(second.read_response().status, 429);
  EXPECT_EQ(RawClient(port()).read_response().status, 503);
  first.send(std::string(900, 'x'));
  EXPECT_EQ(first.read_response().status, 200);
  EXPECT_TRUE(eventually([&] { return metrics_.http().body_bytes_in_flight.value() == 0; }));
}

TEST_F(ServerTest, SurvivesRunningOutOfDescriptors) {
  start();
  RawClient before(port());
  before.send(get_request("/hello"));
  ASSERT_EQ(before.read_response().status, 200);
  rlimit old_limit{};
  getrlimit(RLIMIT_NOFILE, &old_limit);
  const int client_fd = ::socket(AF_INET, SOCK_STREAM, 0);
  const int lowest_free_fd = ::dup(client_fd);
  ::close(lowest_free_fd);
  const rlimit low = {static_cast<rlim_t>(lowest_free_fd), old_limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port());
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::connect(client_fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_TRUE(eventually([&] { return metrics_.http().accept_errors.value() >= 1; }));
  char byte = 0;
  EXPECT_LE(::recv(client_fd, &byte, 1, 0), 0);  // dropped, not left waiting
  before.send(get_request("/hello"));
  EXPECT_EQ(before.read_response().status, 200);
  ::close(client_fd);
  setrlimit(RLIMIT_NOFILE, &old_limit);
  EXPECT_TRUE(eventually([&] { return fetch(port(), get_request("/hello")).status == 200; }));
}

TEST_F(ServerTest, DrainsInOrder) {
  start();
  RawClient busy(port());
  RawClient idle(port());
  busy.send(post_request("/wait", "kept"));
  ASSERT_TRUE(eventually([&] { return num_waiting_ == 1; }));
  server_->begin_drain();
  idle.send(get_request("/hello"));
  const RawResponse refused = idle.read_response();
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.headers.at("connection"), "close");
  EXPECT_EQ(fetch(port(), get_request("/live")).status, 200);
  EXPECT_FALSE(server_->drain(milliseconds(50)));
  let_go_ = true;
  EXPECT_TRUE(server_->drain(milliseconds(5000)));
  EXPECT_EQ(busy.read_response().body, "kept");
  server_->stop();
  EXPECT_EQ(RawClient(port()).read_response().status, 0);
}

TEST_F(ServerTest, StopEndsWhatIsLeft) {
  start();
  RawClient client(port());
  client.send(post_request("/wait", "x"));
  ASSERT_TRUE(eventually([&] { return num_waiting_ == 1; }));
  server_->stop();
  EXPECT_EQ(num_gone_, 1);
  EXPECT_EQ(num_waiting_, 0);
}

TEST_F(ServerTest, SendsCorsHeadersOnlyWhereConfigured) {
  start();
  const std::string preflight =
      "OPTIONS /echo HTTP/1.1\r\nHost: a\r\nOrigin: http://ui\r\n"
      "Access-Control-Request-Method: POST\r\nAuthorization: Bearer bad\r\n\r\n";
  EXPECT_EQ(fetch(port(), preflight).status, 401);
  EXPECT_FALSE(fetch(port(), get_request("/hello", "Origin: http://ui\r\n"))
                   .headers.contains("access-control-allow-origin"));
  server_->stop();
  ServerConfig config;
  config.cors.allowed_origins = {"http://ui"};
  start(config);
  const RawResponse allowed = fetch(port(), preflight);
  EXPECT_EQ(allowed.status, 204);
  EXPECT_EQ(allowed.headers.at("access-control-allow-origin"), "http://ui");
  EXPECT_FALSE(allowed.headers.contains("access-control-allow-credentials"));
  EXPECT_EQ(fetch(port(), get_request("/hello", "Origin: http://ui\r\n"))
                .headers.at("access-control-allow-origin"),
            "http://ui");
  EXPECT_FALSE(fetch(port(), get_request("/hello", "Origin: http://evil\r\n"))
                   .headers.contains("access-control-allow-origin"));
}

}  // namespace
}  // namespace beryl::http
