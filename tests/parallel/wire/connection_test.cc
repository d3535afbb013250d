#include "parallel/wire/connection.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <thread>
#include <utility>

#include "parallel/wire/limits.h"

namespace beryl::wire {
namespace {

using std::chrono::milliseconds;

std::pair<int, int> socket_pair() {
  int fds[2] = {-1, -1};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  return {fds[0], fds[1]};
}

Frame frame_with_reason(size_t num_bytes) {
  Frame frame;
  frame.mutable_goodbye()->set_reason(std::string(num_bytes, 'x'));
  return frame;
}

TEST(WireConnectionTest, CarriesFramesLargerThanTheSocketBuffer) {
  const auto [a, b] = socket_pair();
  Connection left(a);
  Connection right(b);
  std::thread sender([&left] {
    EXPECT_TRUE(left.send(frame_with_reason(5'000'000), kMaxPlanFrameBytes, milliseconds(5000)));
  });
  const auto frame = right.receive(kMaxPlanFrameBytes, milliseconds(5000));
  sender.join();
  ASSERT_TRUE(frame) << frame.error().message;
  EXPECT_EQ(frame->goodbye().reason().size(), 5'000'000U);
}

TEST(WireConnectionTest, EveryWaitHasADeadline) {
  const auto [a, b] = socket_pair();
  Connection left(a);
  Connection right(b);
  const auto frame = right.receive(kMaxPlanFrameBytes, milliseconds(20));
  ASSERT_FALSE(frame);
  EXPECT_EQ(frame.error().code, base::ErrorCode::kDeadlineExceeded);
  // Nobody reads: the sender gives up as well.
  const auto sent = left.send(frame_with_reason(20'000'000), kMaxPlanFrameBytes, milliseconds(20));
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code, base::ErrorCode::kDeadlineExceeded);
}

TEST(WireConnectionTest, ShutDownWakesAReader) {
  const auto [a, b] = socket_pair();
  Connection left(a);
  Connection right(b);
  std::thread closer([&right] {
    std::this_thread::sleep_for(milliseconds(20));
    right.shut_down();
  });
  const auto frame = right.receive(kMaxPlanFrameBytes, milliseconds(10'000));
  closer.join();
  ASSERT_FALSE(frame);
  EXPECT_EQ(frame.error().code, base::ErrorCode::kUnavailable);
}

TEST(WireConnectionTest, ParsesEndpoints) {
  EXPECT_EQ(parse_endpoint("node7:8101")->host, "node7");
  EXPECT_EQ(parse_endpoint("node7:8101")->port, 8101);
  EXPECT_EQ(parse_endpoint("[::1]:80")->host, "::1");
  for (const char* bad : {"", "node7", ":80", "node7:", "node7:0", "node7:65536", "node7:8x"}) {
    EXPECT_FALSE(parse_endpoint(bad)) << bad;
  }
}

TEST(WireConnectionTest, DialingNobodyFailsWithAClearLine) {
  const auto connection = Connection::dial({"127.0.0.1", 1}, milliseconds(500));
  ASSERT_FALSE(connection);
  EXPECT_EQ(connection.error().code, base::ErrorCode::kUnavailable);
  EXPECT_NE(connection.error().message.find("127.0.0.1:1"), std::string::npos);
}

}  // namespace
}  // namespace beryl::wire
