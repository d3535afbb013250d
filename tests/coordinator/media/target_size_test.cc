// Target sizes against those recorded from the reference implementation, and what must hold for
// any.
#include "coordinator/media/target_size.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "coordinator/media/prepared_image.h"
#include "tests/coordinator/media/pictures.h"

namespace beryl::media {
namespace {

TEST(TargetSizeTest, EqualsTheRecordedSizes) {
  const auto golden = nlohmann::json::parse(recorded_file("golden.json"));
  size_t num_rows = 0;
  for (const auto& row : golden["sizes"]) {
    const PixelSize from{row["width"], row["height"]};
    const auto to = target_size(from, row["max_soft_tokens"]);
    ASSERT_TRUE(to) << row;
    EXPECT_EQ(to->width, row["to_width"]) << row;
    EXPECT_EQ(to->height, row["to_height"]) << row;
    const PreparedImage image{to->width, to->height, {}, {}};
    EXPECT_EQ(image.num_soft_tokens(), row["soft_tokens"]) << row;
    ++num_rows;
  }
  EXPECT_EQ(num_rows, 50U);
}

TEST(TargetSizeTest, KeepsWithinTheBudgetForAnyPicture) {
  std::mt19937 random(7);
  for (int run = 0; run < 200'000; ++run) {
    const auto side = [&random] {
      const auto num_bits = random() % 16;
      return static_cast<uint32_t>(1 + random() % (2U << num_bits));
    };
    const PixelSize from{side(), side()};
    const uint32_t budget = kSoftTokenBudgets[random() % kSoftTokenBudgets.size()];
    const auto to = target_size(from, budget);
    ASSERT_TRUE(to) << from.width << "x" << from.height;
    ASSERT_EQ(to->width % kCellSize, 0U);
    ASSERT_EQ(to->height % kCellSize, 0U);
    const PreparedImage image{to->width, to->height, {}, {}};
    ASSERT_GE(image.num_soft_tokens(), 1U);
    ASSERT_LE(image.num_soft_tokens(), budget);
    ASSERT_EQ(image.num_patches(), image.num_soft_tokens() * 9);
  }
}

TEST(TargetSizeTest, KnowsTheBudgets) {
  for (const uint32_t budget : kSoftTokenBudgets) EXPECT_TRUE(is_soft_token_budget(budget));
  for (const uint32_t other : {0U, 1U, 69U, 71U, 256U, 281U, 2240U}) {
    EXPECT_FALSE(is_soft_token_budget(other)) << other;
  }
}

}  // namespace
}  // namespace beryl::media
