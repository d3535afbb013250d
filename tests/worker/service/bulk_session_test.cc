// A rank's second connection: pictures come into the store, anything else ends the session.
#include "worker/service/bulk_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>

#include "parallel/wire/mock_worker.h"
#include "tests/worker/service/fake_coordinator.h"

namespace beryl::service {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

class BulkSessionTest : public testing::Test {
 protected:
  using Opened = base::Expected<std::unique_ptr<BulkSession>>;

  std::future<Opened> open(const wire::Secret& secret) {
    return std::async(std::launch::async, [this, &secret] {
      BulkSession::Registration registration;
      registration.coordinator = coordinator_.endpoint();
      registration.who.set_launch_id("launch");
      registration.who.set_rank(3);
      registration.limits.epoch = 7;
      registration.limits.cache.set_max_picture_patches(900);
      return BulkSession::open(registration, secret, store_,
                               [this](const SessionEnd& end) { ended_.set_value(end); });
    });
  }
  std::unique_ptr<BulkSession> start() {
    auto opening = open(secret_);
    EXPECT_TRUE(coordinator_.greet_bulk(secret_));
    Opened opened = opening.get();
    EXPECT_TRUE(opened) << opened.error().message;
    return *std::move(opened);
  }
  SessionEnd wait_for_end() {
    auto future = ended_.get_future();
    if (future.wait_for(FakeCoordinator::kPatience) == std::future_status::ready) {
      return future.get();
    }
    return {true, "it never ended"};
  }
  static wire::Frame picture(uint64_t key, uint32_t height, uint32_t width) {
    wire::Frame frame;
    wire::Picture& picture = *frame.mutable_picture();
    picture.set_epoch(7);
    picture.mutable_key()->set_low(key);
    picture.set_height(height);
    picture.set_width(width);
    picture.set_pixels(std::string(size_t{3} * height * width, static_cast<char>(key)));
    return frame;
  }

  wire::Secret secret_ = *wire::Secret::from_text("the secret of a session under test");
  FakeCoordinator coordinator_;
  engine::PictureStore store_{FakeCoordinator::kPatience, size_t{100'000}};
  std::promise<SessionEnd> ended_;
};

TEST_F(BulkSessionTest, RegistersAsTheRankItIs) {
  auto opening = open(secret_);
  const auto who = coordinator_.greet_bulk(secret_);
  ASSERT_TRUE(who);
  EXPECT_EQ(who->launch_id(), "launch");
  EXPECT_EQ(who->rank(), 3U);
  EXPECT_TRUE(opening.get());
}

TEST_F(BulkSessionTest, PicturesComeIntoTheStoreHoweverManyThereAre) {
  const auto session = start();
  // Ten times what the store holds: the sender waits, nothing ends.
  auto sending = std::async(std::launch::async, [&] {
    for (uint64_t key = 1; key <= 10; ++key) coordinator_.send_bulk(picture(key, 144, 192));
  });
  for (uint64_t key = 1; key <= 10; ++key) {
    const auto taken = store_.take({0, key});
    ASSERT_TRUE(taken) << taken.error().message;
    EXPECT_EQ(taken->height, 144);
    EXPECT_EQ(taken->width, 192);
    EXPECT_EQ(taken->pixels, std::string(144 * 192 * 3, static_cast<char>(key)));
  }
  sending.get();
  EXPECT_EQ(store_.num_bytes(), 0U);
}

TEST_F(BulkSessionTest, APictureThatIsNoneEndsTheSession) {
  const auto session = start();
  coordinator_.send_bulk(picture(1, 47, 48));
  const SessionEnd end = wait_for_end();
  EXPECT_FALSE(end.is_clean);
  EXPECT_THAT(end.reason, HasSubstr("multiples of 48"));
}

TEST_F(BulkSessionTest, APictureThatComesTooOftenEndsTheSession) {
  const auto session = start();
  for (uint32_t i = 0; i <= engine::PictureStore::kMaxCopies; ++i) {
    coordinator_.send_bulk(picture(1, 48, 48));
  }
  EXPECT_THAT(wait_for_end().reason, HasSubstr("more often"));
}

TEST_F(BulkSessionTest, AnythingElseEndsTheSession) {
  const auto session = start();
  wire::Frame frame;
  frame.mutable_plan()->set_step(1);
  coordinator_.send_bulk(frame);
  EXPECT_THAT(wait_for_end().reason, HasSubstr("no picture"));
}

TEST_F(BulkSessionTest, AClosedConnectionEndsTheSession) {
  const auto session = start();
  coordinator_.close_bulk();
  const SessionEnd end = wait_for_end();
  EXPECT_FALSE(end.is_clean);
  EXPECT_THAT(end.reason, HasSubstr("lost the connection for pictures"));
}

TEST_F(BulkSessionTest, ARefusalAndAGoodbyeSayWhy) {
  {
    const auto session = start();
    coordinator_.send_bulk(wire::reject_frame("rank 3 of 2 ranks"));
    EXPECT_EQ(wait_for_end().reason, "rank 3 of 2 ranks");
  }
  ended_ = {};
  const auto session = start();
  wire::Frame frame;
  frame.mutable_goodbye()->set_reason("closing time");
  coordinator_.send_bulk(frame);
  const SessionEnd end = wait_for_end();
  EXPECT_TRUE(end.is_clean);
  EXPECT_EQ(end.reason, "closing time");
}

TEST_F(BulkSessionTest, LeavingIsQuickEvenWithAFullStore) {
  auto session = start();
  coordinator_.send_bulk(picture(1, 144, 192));
  coordinator_.send_bulk(picture(2, 144, 192));
  while (store_.num_bytes() == 0) std::this_thread::sleep_for(milliseconds(1));
  const auto start_time = std::chrono::steady_clock::now();
  session.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - start_time, milliseconds(5'000));
  // Nobody is told: this side left.
  EXPECT_EQ(ended_.get_future().wait_for(milliseconds(0)), std::future_status::timeout);
}

TEST_F(BulkSessionTest, RefusesACoordinatorThatDoesNotKnowTheSecret) {
  const wire::Secret other = *wire::Secret::from_text("the secret of somebody else");
  auto opening = open(secret_);
  EXPECT_FALSE(coordinator_.greet_bulk(other));
  const Opened opened = opening.get();
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, base::ErrorCode::kUnauthenticated);
}

}  // namespace
}  // namespace beryl::service
