#include "bench/load/response_reader.h"

#include <gtest/gtest.h>

namespace beryl::load {
namespace {

constexpr std::string_view kFixed =
    "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 5\r\nConnection: close\r\n\r\nhello";

TEST(ResponseReaderTest, ReadsAStreamInAnyPieces) {
  const std::string stream =
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
      "b\r\ndata: {}\n\nd\r\n8\r\nata: 1\n\n\r\n0\r\n\r\n";
  for (size_t piece = 1; piece <= stream.size(); ++piece) {
    ResponseReader reader;
    reader.reset(true);
    for (size_t at = 0; at < stream.size(); at += piece) {
      std::string_view bytes = std::string_view(stream).substr(at, piece);
      EXPECT_EQ(reader.feed(bytes), bytes.size());
    }
    EXPECT_EQ(reader.state(), ResponseReader::State::kDone) << piece;
    EXPECT_EQ(reader.status(), 200);
    EXPECT_EQ(reader.num_events(), 2U);
    EXPECT_EQ(reader.body(), "data: {}\n\ndata: 1\n\n");
    EXPECT_TRUE(reader.keep_alive());
  }
}

TEST(ResponseReaderTest, StopsAtTheEndOfAResponse) {
  ResponseReader reader;
  reader.reset(false);
  const std::string two = std::string(kFixed) + std::string(kFixed);
  EXPECT_EQ(reader.feed(two), kFixed.size());
  EXPECT_EQ(reader.status(), 429);
  EXPECT_FALSE(reader.keep_alive());
  EXPECT_TRUE(reader.body().empty());
}

TEST(ResponseReaderTest, ReportsWhatIsNoResponse) {
  ResponseReader reader;
  reader.reset(false);
  reader.feed("SSH-2.0-OpenSSH\r\n\r\n");
  EXPECT_EQ(reader.state(), ResponseReader::State::kBroken);
}

}  // namespace
}  // namespace beryl::load
