// Which frames are sampled, and what has to be decoded for them.
#include "coordinator/media/video/frame_plan.h"

#include <gtest/gtest.h>

#include "coordinator/media/frame_sampling.h"

namespace beryl::media {
namespace {

using Times = std::vector<int64_t>;

TEST(FramePlanTest, SpreadsSamplesLikeTheReference) {
  EXPECT_EQ(sample_frames(10, 4), (std::vector<uint32_t>{0, 2, 5, 7}));
  EXPECT_EQ(sample_frames(3, 32), (std::vector<uint32_t>{0, 1, 2}));
  EXPECT_EQ(sample_frames(100, 32).back(), 96U);
  EXPECT_EQ(count_samples(300, 30, 2, 32), 20U);
  EXPECT_EQ(count_samples(300, 30, 10, 32), 32U);
  EXPECT_EQ(count_samples(300, 30, 0, 32), 32U);
}

TEST(FramePlanTest, DecodesFromTheKeyFrameBefore) {
  std::vector<CodedFrame> frames;
  for (int64_t i = 0; i < 100; ++i) frames.push_back({i, i % 10 == 0});
  const FramePlan plan = plan_frames(frames, {.num_frames = 2}, 10);
  ASSERT_EQ(plan.runs.size(), 2U);
  EXPECT_EQ(plan.runs[0].first, 0U);
  EXPECT_EQ(plan.runs[0].last, 0U);
  EXPECT_EQ(plan.runs[0].num_times, 1U);
  EXPECT_EQ(plan.runs[1].first, 50U);
  EXPECT_EQ(plan.runs[1].last, 50U);
  EXPECT_EQ(plan.times, (Times{0, 50}));
  // Not worth a fresh start.
  frames.resize(60);
  EXPECT_EQ(plan_frames(frames, {.num_frames = 2}, 10).runs.size(), 1U);
}

// Coded I0 P3 B1 B2, then a key frame of time 6 that B4 and B5 follow in the file: they are shown
// before it and need the group before.
TEST(FramePlanTest, GoesBackForFramesThatLeadAKeyFrame) {
  const std::vector<CodedFrame> frames = {{0, true}, {3}, {1}, {2}, {6, true}, {4}, {5}};
  const FramePlan plan = plan_frames(frames, {.num_frames = 7}, 1);
  ASSERT_EQ(plan.runs.size(), 1U);
  EXPECT_EQ(plan.times, (Times{0, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(plan.runs[0].last, 6U);
}

TEST(FramePlanTest, CountsPlacesWhereTimesAreOfNoUse) {
  for (const int64_t time : {kNoTime, int64_t{5}}) {
    const std::vector<CodedFrame> frames(6, CodedFrame{time, true});
    const FramePlan plan = plan_frames(frames, {.num_frames = 3}, 1);
    EXPECT_FALSE(plan.has_times);
    ASSERT_EQ(plan.runs.size(), 1U);
    EXPECT_EQ(plan.times, (Times{0, 2, 4}));
  }
}

TEST(FramePlanTest, LeavesFramesOutThatAreNotShown) {
  const std::vector<CodedFrame> frames = {{0, true, false}, {1, false, false}, {2}, {3}};
  const FramePlan plan = plan_frames(frames, {.num_frames = 8}, 1);
  EXPECT_EQ(plan.num_shown, 2U);
  EXPECT_EQ(plan.first_time, 2);
  ASSERT_EQ(plan.runs.size(), 1U);
  EXPECT_EQ(plan.runs[0].first, 0U);
  EXPECT_EQ(plan_frames({}, {}, 1).num_shown, 0U);
}

}  // namespace
}  // namespace beryl::media
