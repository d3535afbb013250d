#include "worker/model/repeatable_step.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace beryl::model {
namespace {

TEST(RepeatableStepTest, BucketsHoldTheirPositionsAndGrow) {
  for (int32_t position = 0; position < 300'000; position += 13) {
    const int32_t last = last_of_bucket(position);
    ASSERT_GE(last, position);
    ASSERT_EQ(last_of_bucket(last), last) << position;
    ASSERT_LT(last - position, std::max(256, position / 4 + 1)) << position;
  }
  EXPECT_EQ(last_of_bucket(0), 255);
  EXPECT_EQ(last_of_bucket(2047), 2047);
  EXPECT_EQ(last_of_bucket(2048), 2559);
  EXPECT_GE(last_of_bucket(2'147'483'646), 2'147'483'646);
}

kernels::BatchView rows_of(int num_rows, int num_segments, int max_segment_rows) {
  kernels::BatchView rows;
  rows.num_rows = num_rows;
  rows.num_segments = num_segments;
  rows.max_segment_rows = max_segment_rows;
  return rows;
}

TEST(RepeatableStepTest, OnlyStepsOfOneRowASegmentRepeat) {
  EXPECT_TRUE(is_repeatable(rows_of(3, 3, 1)));
  EXPECT_FALSE(is_repeatable(rows_of(4, 3, 2)));
  EXPECT_FALSE(is_repeatable(rows_of(0, 0, 0)));
  EXPECT_TRUE(is_repeatable(rows_of(kMaxRepeatableRows, kMaxRepeatableRows, 1)));
  EXPECT_FALSE(is_repeatable(rows_of(kMaxRepeatableRows + 1, kMaxRepeatableRows + 1, 1)));
}

}  // namespace
}  // namespace beryl::model
