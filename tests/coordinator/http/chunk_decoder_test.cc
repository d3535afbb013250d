#include "coordinator/http/chunk_decoder.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace beryl::http {
namespace {

using base::ErrorCode;

base::Expected<std::string> decode(const std::string& wire, const Limits& limits = {},
                                   size_t max_bytes = 1000) {
  ChunkDecoder decoder(limits, max_bytes);
  std::string body;
  const auto consumed = decoder.decode(wire, body);
  if (!consumed) return consumed.error();
  if (!decoder.done()) return base::Error{ErrorCode::kTimeout, "not done", {}, {}};
  return body;
}

TEST(ChunkDecoderTest, DecodesHoweverTheBytesArrive) {
  const std::string wire = "5\r\nhello\r\nA\r\n, world!!!\r\n0\r\nX-T: 1\r\nY: 2\r\n\r\n";
  const Limits limits;
  for (size_t cut = 0; cut <= wire.size(); ++cut) {
    ChunkDecoder decoder(limits, 1000);
    std::string body;
    ASSERT_TRUE(decoder.decode(wire.substr(0, cut), body).has_value());
    const auto rest = decoder.decode(wire.substr(cut) + "GET", body);
    ASSERT_TRUE(rest.has_value());
    EXPECT_TRUE(decoder.done());
    EXPECT_EQ(*rest, wire.size() - cut);  // the next request is left alone
    EXPECT_EQ(body, "hello, world!!!");
  }
}

TEST(ChunkDecoderTest, RefusesMalformedFraming) {
  const std::vector<std::string> wires = {
      "5;ext=1\r\nhello\r\n0\r\n\r\n",    // extension
      "5;a=\"\r\nhello\r\n0\r\n\r\n",     // extension with an open quote
      "5 \r\nhello\r\n0\r\n\r\n",         // space
      "0x5\r\nhello\r\n0\r\n\r\n",        // prefix
      "+5\r\nhello\r\n0\r\n\r\n",         // sign
      "-5\r\nhello\r\n0\r\n\r\n",         //
      "\r\nhello\r\n0\r\n\r\n",           // no size
      "5\nhello\r\n0\r\n\r\n",            // bare LF
      "5\r\nhello\n0\r\n\r\n",            //
      "5\r\nhello!\r\n0\r\n\r\n",         // longer than said
      "5\r\nhell\r\n0\r\n\r\n",           // shorter than said
      "000000005\r\nhello\r\n0\r\n\r\n",  // nine digits
      "0\r\nX: 1\n\r\n",                  // bare LF in a trailer
      "0\r\n\rX\r\n",                     // bare CR in a trailer
  };
  for (const std::string& wire : wires) {
    const auto body = decode(wire);
    ASSERT_FALSE(body.has_value()) << wire;
    EXPECT_EQ(static_cast<int>(body.error().code), static_cast<int>(ErrorCode::kInvalidArgument))
        << wire;
  }
}

TEST(ChunkDecoderTest, EnforcesTheBodyLimitBeforeReading) {
  EXPECT_TRUE(decode("3e8\r\n" + std::string(1000, 'x') + "\r\n0\r\n\r\n").has_value());
  const auto body = decode("3e9\r\n");
  ASSERT_FALSE(body.has_value());
  EXPECT_EQ(static_cast<int>(body.error().code), static_cast<int>(ErrorCode::kPayloadTooLarge));
}

TEST(ChunkDecoderTest, BoundsChunkCountAndTrailers) {
  Limits limits;
  limits.max_num_chunks = 10;
  std::string wire;
  for (int i = 0; i < 11; ++i) wire += "1\r\nx\r\n";
  EXPECT_FALSE(decode(wire + "0\r\n\r\n", limits).has_value());
  EXPECT_TRUE(decode(wire.substr(6) + "0\r\n\r\n", limits).has_value());
  const auto body = decode("0\r\nX: " + std::string(10'000, 'x') + "\r\n\r\n");
  ASSERT_FALSE(body.has_value());
  EXPECT_EQ(static_cast<int>(body.error().code), static_cast<int>(ErrorCode::kHeaderTooLarge));
}

}  // namespace
}  // namespace beryl::http
