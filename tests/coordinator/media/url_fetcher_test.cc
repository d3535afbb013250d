// Downloads: what is fetched, and above all what is not.
#include "coordinator/media/url_fetcher.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <cstring>
#include <thread>

#include "tests/coordinator/media/web_server.h"

namespace beryl::media {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr const char* kNotFetched =
    "The URL could not be fetched: it must name a file on a public web server.";

bool is_public(const char* text) {
  sockaddr_storage storage = {};
  auto* const ipv4 = reinterpret_cast<sockaddr_in*>(&storage);
  auto* const ipv6 = reinterpret_cast<sockaddr_in6*>(&storage);
  if (inet_pton(AF_INET, text, &ipv4->sin_addr) == 1) {
    storage.ss_family = AF_INET;
  } else {
    EXPECT_EQ(inet_pton(AF_INET6, text, &ipv6->sin6_addr), 1) << text;
    storage.ss_family = AF_INET6;
  }
  return is_public_address(reinterpret_cast<const sockaddr&>(storage));
}

TEST(PublicAddressTest, KnowsWhatIsNotPublic) {
  for (const char* text : {"0.0.0.0",
                           "0.1.2.3",
                           "10.0.0.1",
                           "10.255.255.255",
                           "100.64.0.1",
                           "100.127.255.255",
                           "127.0.0.1",
                           "127.255.255.254",
                           "169.254.169.254",
                           "172.16.0.1",
                           "172.31.255.255",
                           "192.0.0.8",
                           "192.0.2.1",
                           "192.88.99.1",
                           "192.168.1.1",
                           "198.18.0.1",
                           "198.19.255.255",
                           "198.51.100.7",
                           "203.0.113.9",
                           "224.0.0.1",
                           "239.1.1.1",
                           "240.0.0.1",
                           "255.255.255.255",
                           "::",
                           "::1",
                           "::ffff:127.0.0.1",
                           "::ffff:8.8.8.8",
                           "::127.0.0.1",
                           "64:ff9b::7f00:1",
                           "64:ff9b:1::1",
                           "100::1",
                           "2001::1",
                           "2001:10::1",
                           "2001:db8::1",
                           "2002:7f00:1::1",
                           "3fff::1",
                           "fc00::1",
                           "fd12::1",
                           "fe80::1",
                           "fec0::1",
                           "ff02::1",
                           "5f00::1"}) {
    EXPECT_FALSE(is_public(text)) << text;
  }
  for (const char* text : {"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255",
                           "100.128.0.0", "126.1.1.1", "128.0.0.1", "172.15.0.1", "172.32.0.1",
                           "192.167.1.1", "192.169.1.1", "198.17.1.1", "198.20.0.1",
                           "223.255.255.255", "2001:4860:4860::8888", "2606:4700::1", "2a00::1"}) {
    EXPECT_TRUE(is_public(text)) << text;
  }
  sockaddr unix_address = {};
  unix_address.sa_family = AF_UNIX;
  EXPECT_FALSE(is_public_address(unix_address));
}

// 127.0.0.1 stands for the public internet here; 127.0.0.2 is still this machine.
bool is_test_server(const sockaddr& address) {
  sockaddr_in ipv4 = {};
  std::memcpy(&ipv4, &address, sizeof(ipv4));
  return address.sa_family == AF_INET && ipv4.sin_addr.s_addr == htonl(INADDR_LOOPBACK);
}

FetchOptions options_for(const WebServer& server) {
  FetchOptions options;
  options.allowed_ports = {server.port()};
  options.is_allowed_address = is_test_server;
  return options;
}

std::string fetch(const FetchOptions& options, const std::string& url, size_t max_bytes = 1000,
                  const StopCondition& stop = {}) {
  const auto body = UrlFetcher(options).fetch(url, max_bytes, stop);
  return body ? *body : body.error().message;
}

TEST(UrlFetcherTest, FetchesAndFollowsRedirects) {
  WebServer server(WebServer::Responses{{"/a", ok_response("content")},
                                        {"/moved", redirect_response("/a")},
                                        {"/twice", redirect_response("/moved")}});
  const FetchOptions options = options_for(server);
  EXPECT_EQ(fetch(options, server.url("/a")), "content");
  EXPECT_EQ(fetch(options, server.url("/twice")), "content");
  EXPECT_EQ(fetch(options, server.url("/a"), 7), "content");
}

TEST(UrlFetcherTest, RefusesThisMachineByDefault) {
  WebServer server(WebServer::Responses{{"/a", ok_response("content")}});
  FetchOptions options;
  options.allowed_ports = {server.port()};
  const std::string port = std::to_string(server.port());
  for (const std::string host : {"127.0.0.1", "localhost", "localhost.", "0x7f000001", "2130706433",
                                 "0177.0.0.1", "127.1", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]"}) {
    EXPECT_EQ(fetch(options, "http://" + host + ":" + port + "/a"), kNotFetched) << host;
  }
  EXPECT_EQ(server.num_requests(), 0);
}

TEST(UrlFetcherTest, ChecksEveryRedirect) {
  WebServer inside(WebServer::Responses{{"/secret", ok_response("secret")}});
  WebServer server(WebServer::Responses{{"/in", ""},
                                        {"/loop", redirect_response("/loop")},
                                        {"/file", redirect_response("file:///etc/passwd")},
                                        {"/ftp", redirect_response("ftp://127.0.0.1/x")},
                                        {"/other_port", redirect_response(inside.url("/secret"))}});
  WebServer lurer(
      {{"/in", redirect_response("http://127.0.0.2:" + std::to_string(server.port()))}});
  FetchOptions options = options_for(server);
  options.allowed_ports.push_back(lurer.port());
  EXPECT_EQ(fetch(options, lurer.url("/in")), kNotFetched);
  for (const char* path : {"/loop", "/file", "/ftp", "/other_port"}) {
    EXPECT_EQ(fetch(options, server.url(path)), kNotFetched) << path;
  }
  EXPECT_EQ(inside.num_requests(), 0);
  EXPECT_EQ(server.num_requests(), 7);  // the loop ends: one request and three redirects
}

TEST(UrlFetcherTest, RefusesUrlsOfOtherKinds) {
  WebServer server(WebServer::Responses{{"/a", ok_response("content")}});
  const FetchOptions options = options_for(server);
  EXPECT_EQ(fetch(options, "ftp://127.0.0.1/a"), "The URL must be http: or https:.");
  EXPECT_EQ(fetch(options, "gopher://127.0.0.1/a"), "The URL must be http: or https:.");
  EXPECT_EQ(fetch(options, "file:///etc/passwd"), "The URL must be http: or https:.");
  EXPECT_EQ(fetch(options, "http://user:pass@127.0.0.1/a"),
            "The URL must not hold a user name or password.");
  EXPECT_EQ(fetch(options, "http://"), "The URL is not valid.");
  EXPECT_NE(fetch(options, "http://public.example\\@127.0.0.1/a"), "content");
  EXPECT_EQ(server.num_requests(), 0);
}

TEST(UrlFetcherTest, AsksOnlyAllowedHosts) {
  WebServer server(
      {{"/a", ok_response("content")}, {"/away", redirect_response("http://localhost/a")}});
  FetchOptions options = options_for(server);
  options.allowed_hosts = {"127.0.0.1"};
  EXPECT_EQ(fetch(options, server.url("/a")), "content");
  EXPECT_EQ(fetch(options, server.url("/a", "localhost")),
            "The host of the URL is not among those allowed here.");
  EXPECT_EQ(fetch(options, server.url("/away")), kNotFetched);
}

TEST(UrlFetcherTest, BoundsSizeAndTime) {
  WebServer server(
      WebServer::Responses{{"/big", ok_response(std::string(5000, 'x'))},
                           {"/endless", "HTTP/1.1 200 OK\r\n\r\n" + std::string(5000, 'x')},
                           {"/silent", ""},
                           {"/short", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nabc"}});
  FetchOptions options = options_for(server);
  options.timeout = milliseconds(300);
  const std::string too_large = "What the URL names has more than the 1000 bytes allowed.";
  EXPECT_EQ(fetch(options, server.url("/big")), too_large);
  EXPECT_EQ(fetch(options, server.url("/endless")), too_large);
  EXPECT_EQ(fetch(options, server.url("/short")), kNotFetched);
  const auto begin = steady_clock::now();
  EXPECT_EQ(fetch(options, server.url("/silent")), kNotFetched);
  EXPECT_LT(steady_clock::now() - begin, milliseconds(3'000));
}

TEST(UrlFetcherTest, TellsNothingApart) {
  WebServer server(WebServer::Responses{{"/silent", ""}});
  FetchOptions options = options_for(server);
  options.timeout = milliseconds(200);
  std::string detail;
  options.on_failure = [&detail](std::string_view why) { detail = why; };
  EXPECT_EQ(fetch(options, server.url("/missing")), kNotFetched);
  EXPECT_NE(detail.find("404"), std::string::npos);
  EXPECT_EQ(fetch(options, server.url("/silent")), kNotFetched);
  EXPECT_EQ(fetch(options, "http://127.0.0.1:1/"), kNotFetched);
  EXPECT_EQ(detail, "its address or port is not allowed");
  EXPECT_EQ(fetch(options, "http://no-such-host.invalid/"), kNotFetched);
}

TEST(UrlFetcherTest, EndsWhenTheClientHasGone) {
  WebServer server(WebServer::Responses{{"/silent", ""}});
  std::atomic<bool> cancelled{false};
  std::thread canceller([&cancelled] {
    std::this_thread::sleep_for(milliseconds(50));
    cancelled = true;
  });
  const auto body =
      UrlFetcher(options_for(server)).fetch(server.url("/silent"), 10, {.cancelled = &cancelled});
  canceller.join();
  ASSERT_FALSE(body);
  EXPECT_EQ(body.error().code, base::ErrorCode::kCancelled);
}

}  // namespace
}  // namespace beryl::media
