#include "coordinator/http/head_parser.h"

#include <gtest/gtest.h>

#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <string>
#include <vector>

namespace beryl::http {
namespace {

using base::ErrorCode;

struct Vector {
  const char* name;
  std::string head;
  ErrorCode code = ErrorCode::kInvalidArgument;
};

std::string with(const std::string& lines) {
  return "POST / HTTP/1.1\r\nHost: a\r\n" + lines + "\r\n";
}

std::string many_headers(int count) {
  std::string lines;
  for (int i = 0; i < count; ++i) lines += "X-A" + std::to_string(i) + ": 1\r\n";
  return lines;
}

const std::vector<Vector>& bad_heads() {
  static const std::vector<Vector> vectors = {
      {"HTTP/1.0 with chunked", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"},
      {"TE identity", with("Transfer-Encoding: identity\r\n")},
      {"TE gzip", with("Transfer-Encoding: gzip\r\n"), ErrorCode::kNotImplemented},
      {"TE xchunked", with("Transfer-Encoding: xchunked\r\n")},
      {"TE chunked, identity", with("Transfer-Encoding: chunked, identity\r\n")},
      {"TE chunked, chunked", with("Transfer-Encoding: chunked, chunked\r\n")},
      {"TE gzip, chunked", with("Transfer-Encoding: gzip, chunked\r\n")},
      {"TE twice", with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")},
      {"TE empty", with("Transfer-Encoding:\r\n")},
      {"TE gzip then CL", with("Transfer-Encoding: gzip\r\nContent-Length: 1\r\n")},
      {"TE then CL", with("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n")},
      {"CL then TE", with("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n")},
      {"TE with space before colon", with("Transfer-Encoding : chunked\r\n")},
      {"TE quoted", with("Transfer-Encoding: \"chunked\"\r\n")},
      {"CL twice, equal", with("Content-Length: 1\r\nContent-Length: 1\r\n")},
      {"CL twice, different", with("Content-Length: 1\r\nContent-Length: 2\r\n")},
      {"CL list", with("Content-Length: 1, 1\r\n")},
      {"CL signed", with("Content-Length: +1\r\n")},
      {"CL negative", with("Content-Length: -1\r\n")},
      {"CL hex", with("Content-Length: 0x1\r\n")},
      {"CL overflow", with("Content-Length: 18446744073709551616\r\n")},
      {"CL empty", with("Content-Length:\r\n")},
      {"CL trailing text", with("Content-Length: 1a\r\n")},
      {"obs-fold", with("X-A: 1\r\n 2\r\n")},
      {"obs-fold tab", with("X-A: 1\r\n\t2\r\n")},
      {"first line folded", "POST / HTTP/1.1\r\n Host: a\r\n\r\n"},
      {"no Host", "GET / HTTP/1.1\r\n\r\n"},
      {"two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"},
      {"two Hosts in 1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"},
      {"Host list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"},
      {"Host with path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"},
      {"GET with body", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"},
      {"GET chunked", "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"},
      {"absolute form", "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"authority form", "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"asterisk form", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"0x80 in target", "GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"fragment in target", "GET /#a HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"backslash in target", "GET /\\a HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"space in target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"double space", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"tab as separator", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"HTTP/0.9", "GET /\r\n\r\n"},
      {"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\n"},
      {"HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n"},
      {"lower-case version", "GET / http/1.1\r\nHost: a\r\n\r\n"},
      {"method not a token", "GE(T / HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"leading empty line", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"header with underscore", with("X_A: 1\r\n")},
      {"Content_Length", with("Content_Length: 1\r\n")},
      {"header without colon", with("X-A\r\n")},
      {"empty header name", with(": 1\r\n")},
      {"space in header name", with("X A: 1\r\n")},
      {"space before colon", with("X-A : 1\r\n")},
      {"non-ASCII header name", with("X-\xc3\xa4: 1\r\n")},
      {"NUL in value", with(std::string("X-A: a\0b\r\n", 10))},
      {"bare CR in value", with("X-A: a\rb\r\n")},
      {"control in value", with("X-A: a\x01\r\n")},
      {"DEL in value", with("X-A: a\x7f\r\n")},
      {"two Authorization", with("Authorization: a\r\nAuthorization: b\r\n")},
      {"two Content-Type", with("Content-Type: a\r\nContent-Type: a\r\n")},
      {"unknown Expect", with("Expect: magic\r\n")},
      {"101 headers", with(many_headers(100)), ErrorCode::kHeaderTooLarge},
      {"500 headers", with(many_headers(500)), ErrorCode::kHeaderTooLarge},
      {"long target", "GET /" + std::string(9000, 'a') + " HTTP/1.1\r\nHost: a\r\n\r\n",
       ErrorCode::kHeaderTooLarge},
  };
  return vectors;
}

TEST(HeadParserTest, RefusesWhatCouldBeReadInTwoWays) {
  const Limits limits;
  for (const Vector& vector : bad_heads()) {
    Request request;
    const base::Status status = parse_head(vector.head, limits, request);
    ASSERT_FALSE(status.is_ok()) << vector.name;
    EXPECT_EQ(static_cast<int>(status.error().code), static_cast<int>(vector.code)) << vector.name;
    EXPECT_FALSE(status.error().message.empty()) << vector.name;
  }
}

const std::vector<std::string>& good_heads() {
  static const std::vector<std::string> heads = {
      "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET / HTTP/1.0\r\n\r\n",
      "GET /a/b?c=d&e HTTP/1.1\r\nHost: [::1]:8000\r\nAccept: */*\r\n\r\n",
      "POST /v1 HTTP/1.1\r\nhOsT: a:1\r\ncontent-LENGTH: 12\r\nX-A:\t v \t\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n",
      "DELETE /x%20y HTTP/1.1\r\nHost: a\r\nX-Empty:\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
      with(many_headers(99)),
  };
  return heads;
}

// What we take must mean the same to another parser.
TEST(HeadParserTest, AgreesWithBeastOnWhatItTakes) {
  const Limits limits;
  for (const std::string& head : good_heads()) {
    Request request;
    const base::Status status = parse_head(head, limits, request);
    ASSERT_TRUE(status.is_ok()) << head << status.error().message;
    boost::beast::http::request_parser<boost::beast::http::empty_body> parser;
    parser.header_limit(1 << 20);
    boost::beast::error_code error;
    parser.put(boost::asio::buffer(head), error);
    ASSERT_TRUE(parser.is_header_done()) << head << error.message();
    EXPECT_EQ(parser.get().method_string(), request.method);
    const std::string target = request.query.empty()
                                   ? std::string(request.path)
                                   : std::string(request.path) + "?" + std::string(request.query);
    EXPECT_EQ(parser.get().target(), target);
    EXPECT_EQ(parser.chunked(), request.chunked);
    EXPECT_EQ(parser.keep_alive(), request.keep_alive);
    if (request.content_length) {
      EXPECT_EQ(*parser.content_length(), *request.content_length);
    }
    for (const HeaderField& field : request.headers) {
      EXPECT_EQ(parser.get()[std::string(field.name)], field.value) << field.name;
    }
  }
}

TEST(HeadParserTest, ReadsConnectionAndExpect) {
  Request request;
  ASSERT_TRUE(parse_head(with("Connection: Close\r\n"), {}, request).is_ok());
  EXPECT_FALSE(request.keep_alive);
  ASSERT_TRUE(parse_head("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", {}, request).is_ok());
  EXPECT_TRUE(request.keep_alive);
  ASSERT_TRUE(
      parse_head(with("Expect: 100-continue\r\nContent-Length: 5\r\n"), {}, request).is_ok());
  EXPECT_TRUE(request.expects_continue);
}

TEST(HeadScannerTest, FindsTheEndHoweverTheBytesArrive) {
  const std::string head = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
  const std::string data = head + "GET";
  for (size_t cut = 0; cut < head.size(); ++cut) {
    HeadScanner scanner;
    EXPECT_EQ(scanner.scan(data.substr(0, cut)), HeadScanner::State::kMore) << cut;
    EXPECT_EQ(scanner.scan(data), HeadScanner::State::kComplete) << cut;
    EXPECT_EQ(scanner.head_bytes(), head.size());
  }
}

TEST(HeadScannerTest, RefusesBareLineFeedsAtOnce) {
  EXPECT_EQ(HeadScanner().scan("GET / HTTP/1.1\n"), HeadScanner::State::kBad);
  EXPECT_EQ(HeadScanner().scan("\n"), HeadScanner::State::kBad);
  EXPECT_EQ(HeadScanner().scan("GET / HTTP/1.1\r\nHost: a\r\n\n"), HeadScanner::State::kBad);
}

}  // namespace
}  // namespace beryl::http
