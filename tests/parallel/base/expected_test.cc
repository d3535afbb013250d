#include "parallel/base/expected.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace beryl::base {
namespace {

TEST(ExpectedTest, HoldsAValueOrAnError) {
  Expected<std::string> good = std::string("x");
  ASSERT_TRUE(good);
  EXPECT_EQ(*good, "x");
  const Expected<std::string> bad = invalid_argument("top_p", "must be in (0, 1]");
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().param, "top_p");
  EXPECT_EQ(bad.error().code, ErrorCode::kInvalidArgument);
}

TEST(ExpectedTest, CarriesMoveOnlyValues) {
  Expected<std::unique_ptr<int>> value = std::make_unique<int>(3);
  std::unique_ptr<int> taken = *std::move(value);
  EXPECT_EQ(*taken, 3);
}

TEST(ExpectedDeathTest, ValueOfAFailureAborts) {
  const Expected<int> bad = invalid_argument("n", "too many");
  EXPECT_DEATH((void)bad.value(), "too many");
}

TEST(StatusTest, IsOkUnlessMadeFromAnError) {
  EXPECT_TRUE(Status::ok());
  EXPECT_FALSE(Status(invalid_argument("a", "b")));
}

}  // namespace
}  // namespace beryl::base
