#include "parallel/wire/framing.h"

#include <gtest/gtest.h>

#include <string>

#include "parallel/wire/limits.h"
#include "tests/parallel/wire/sample_messages.h"

namespace beryl::wire {
namespace {

Frame heartbeat(uint64_t step) {
  Frame frame;
  frame.mutable_heartbeat()->set_epoch(1);
  frame.mutable_heartbeat()->set_last_step(step);
  return frame;
}

TEST(WireFramingTest, CutsAStreamIntoFramesWhereverItIsSplit) {
  std::string stream;
  for (uint64_t step = 1; step <= 3; ++step) {
    stream += *encode_frame(heartbeat(step), kMaxPlanFrameBytes);
  }
  for (size_t piece = 1; piece <= stream.size(); ++piece) {
    FrameReader reader(kMaxPlanFrameBytes);
    uint64_t seen = 0;
    for (size_t at = 0; at < stream.size(); at += piece) {
      reader.append(std::string_view(stream).substr(at, piece));
      while (true) {
        auto frame = reader.next();
        ASSERT_TRUE(frame) << frame.error().message;
        if (!frame->has_value()) break;
        EXPECT_EQ((*frame)->heartbeat().last_step(), ++seen);
      }
    }
    EXPECT_EQ(seen, 3U);
  }
}

TEST(WireFramingTest, RefusesALengthAboveTheLimitBeforeTheBodyComes) {
  FrameReader reader(100);
  reader.append(std::string("\x00\x00\x00\x65", 4));
  const auto frame = reader.next();
  ASSERT_FALSE(frame);
  EXPECT_EQ(frame.error().code, base::ErrorCode::kPayloadTooLarge);
}

TEST(WireFramingTest, RefusesEmptyFramesAndUnknownBodies) {
  FrameReader empty(100);
  empty.append(std::string(4, '\0'));
  EXPECT_FALSE(empty.next());
  EXPECT_FALSE(decode_frame(""));
  EXPECT_FALSE(decode_frame("\xFA\x06\x01\x00"));  // field 111, not of this protocol
}

TEST(WireFramingTest, RefusesToSendAboveTheLimit) {
  Frame frame;
  frame.mutable_reject()->set_reason(std::string(200, 'x'));
  const auto bytes = encode_frame(frame, 100);
  ASSERT_FALSE(bytes);
  EXPECT_EQ(bytes.error().code, base::ErrorCode::kPayloadTooLarge);
}

TEST(WireFramingTest, RefusesDeepNesting) {
  // A chain of groups (wire type 3), which the parser must not follow without end.
  std::string body;
  for (int i = 0; i < 100'000; ++i) body += '\x7B';
  EXPECT_FALSE(decode_frame(body));
}

}  // namespace
}  // namespace beryl::wire
