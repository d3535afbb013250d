// Pixels between the thread that receives them and the step that needs them.
#include "worker/engine/picture_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

namespace beryl::engine {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

constexpr milliseconds kPatience{10'000};
constexpr milliseconds kMoment{50};

Picture plain_picture(char value) {
  return {.height = 48, .width = 48, .pixels = std::string(48 * 48 * 3, value)};
}

constexpr PictureKey key_of(uint64_t number) {
  return {number, 0};
}

TEST(PictureStoreTest, TheReceiverWaitsForRoomAndTheStepForItsPicture) {
  const size_t size = plain_picture(0).pixels.size();
  PictureStore store(kPatience, 2 * size);
  ASSERT_TRUE(store.add(key_of(1), plain_picture(1)));
  ASSERT_TRUE(store.add(key_of(2), plain_picture(2)));
  EXPECT_EQ(store.num_bytes(), 2 * size);
  auto third = std::async(std::launch::async,
                          [&] { return store.add(key_of(3), plain_picture(3)).is_ok(); });
  EXPECT_EQ(third.wait_for(kMoment), std::future_status::timeout);
  // A step that needs all three is not stuck: what it takes makes room.
  for (const uint64_t key : {1, 2, 3}) {
    const auto picture = store.take(key_of(key));
    ASSERT_TRUE(picture) << key;
    EXPECT_EQ(picture->pixels[0], static_cast<char>(key));
  }
  EXPECT_TRUE(third.get());
  EXPECT_EQ(store.num_bytes(), 0U);
}

TEST(PictureStoreTest, AStepWaitsForAPictureThatComesLate) {
  PictureStore store(kPatience);
  auto taking = std::async(std::launch::async, [&] { return store.take(key_of(1)).has_value(); });
  EXPECT_EQ(taking.wait_for(kMoment), std::future_status::timeout);
  ASSERT_TRUE(store.add(key_of(1), plain_picture(1)));
  EXPECT_TRUE(taking.get());
}

TEST(PictureStoreTest, APictureThatDoesNotComeIsAnError) {
  PictureStore store(kMoment);
  ASSERT_TRUE(store.add(key_of(2), plain_picture(2)));
  const auto picture = store.take(key_of(0xABC));
  ASSERT_FALSE(picture);
  EXPECT_EQ(picture.error().code, base::ErrorCode::kDeadlineExceeded);
  EXPECT_THAT(picture.error().message, HasSubstr("picture 0000000000000abc0000000000000000"));
}

TEST(PictureStoreTest, OnePictureAlwaysFitsAndMayComeForSeveralSteps) {
  PictureStore store(kMoment, 10);
  for (uint32_t i = 0; i < PictureStore::kMaxCopies; ++i) {
    ASSERT_TRUE(store.add(key_of(1), plain_picture(1)));
  }
  const auto once_more = store.add(key_of(1), plain_picture(1));
  ASSERT_FALSE(once_more);
  EXPECT_THAT(once_more.error().message, HasSubstr("more often than it is used"));

  PictureStore two(kMoment, 10);
  ASSERT_TRUE(two.add(key_of(1), plain_picture(1)));
  ASSERT_TRUE(two.add(key_of(1), plain_picture(1)));
  EXPECT_TRUE(two.take(key_of(1)));
  EXPECT_EQ(two.take(key_of(1))->pixels, plain_picture(1).pixels);
  EXPECT_FALSE(two.take(key_of(1)));
  EXPECT_EQ(two.num_bytes(), 0U);
}

TEST(PictureStoreTest, ClosingEndsAllWaits) {
  PictureStore store(kPatience, 10);
  ASSERT_TRUE(store.add(key_of(1), plain_picture(1)));
  auto adding = std::async(std::launch::async,
                           [&] { return store.add(key_of(2), plain_picture(2)).is_ok(); });
  auto taking = std::async(std::launch::async, [&] { return store.take(key_of(3)).has_value(); });
  EXPECT_EQ(adding.wait_for(kMoment), std::future_status::timeout);
  store.close();
  EXPECT_FALSE(adding.get());
  EXPECT_FALSE(taking.get());
  EXPECT_FALSE(store.take(key_of(1)));
}

}  // namespace
}  // namespace beryl::engine
