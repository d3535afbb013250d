#include "deploy/launcher/group_supervisor.h"

#include <gtest/gtest.h>

namespace beryl::launcher {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class GroupSupervisorTest : public testing::Test {
 protected:
  GroupAction tick() { return supervisor_.tick(now_); }
  void pass(milliseconds time) { now_ += time; }
  // Starts a job and lets it be ready for `uptime`.
  void start_and_be_ready(milliseconds uptime) {
    ASSERT_EQ(tick(), GroupAction::kStart);
    supervisor_.on_ready(++epoch_, now_);
    ASSERT_EQ(supervisor_.state(), GroupState::kReady);
    pass(uptime);
  }
  milliseconds until_due() {
    return *supervisor_.wakeup() - now_ < milliseconds(0)
               ? milliseconds(0)
               : std::chrono::duration_cast<milliseconds>(*supervisor_.wakeup() - now_);
  }

  RestartPolicy policy_;
  TimePoint now_{seconds(1000)};
  uint64_t epoch_ = 0;
  GroupSupervisor supervisor_{policy_, now_};
};

TEST_F(GroupSupervisorTest, StartsAtOnceAndOnlyOnce) {
  EXPECT_EQ(tick(), GroupAction::kStart);
  EXPECT_EQ(tick(), GroupAction::kNone);
  EXPECT_EQ(supervisor_.state(), GroupState::kStarting);
}

TEST_F(GroupSupervisorTest, WaitsLongerAfterEachFailureUpToTheLimit) {
  for (const int expected : {100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000}) {
    start_and_be_ready(seconds(1));
    EXPECT_EQ(supervisor_.on_exit("signal 9", now_), GroupAction::kNone);
    EXPECT_EQ(until_due(), milliseconds(expected));
    EXPECT_EQ(tick(), GroupAction::kNone);
    pass(until_due());
  }
}

TEST_F(GroupSupervisorTest, ForgetsFailuresOfAGroupThatWasStable) {
  for (int i = 0; i < 3; ++i) {
    start_and_be_ready(seconds(1));
    EXPECT_EQ(supervisor_.on_exit("x", now_), GroupAction::kNone);
    pass(until_due());
  }
  start_and_be_ready(policy_.stable_after);
  EXPECT_EQ(supervisor_.on_exit("x", now_), GroupAction::kNone);
  EXPECT_EQ(until_due(), policy_.first_delay);
}

TEST_F(GroupSupervisorTest, GivesUpAfterStartsThatNeverBecameReady) {
  for (uint32_t i = 1; i < policy_.max_failed_starts; ++i) {
    ASSERT_EQ(tick(), GroupAction::kStart);
    ASSERT_EQ(supervisor_.on_exit("exit status 1", now_), GroupAction::kNone) << i;
    pass(until_due());
  }
  ASSERT_EQ(tick(), GroupAction::kStart);
  EXPECT_EQ(supervisor_.on_exit("exit status 1", now_), GroupAction::kGaveUp);
  EXPECT_EQ(supervisor_.wakeup(), std::nullopt);
  EXPECT_EQ(supervisor_.last_reason(), "exit status 1");
  pass(seconds(3600));
  EXPECT_EQ(tick(), GroupAction::kNone);
}

TEST_F(GroupSupervisorTest, OneReadyStartBreaksTheRowOfFailedOnes) {
  for (int round = 0; round < 3; ++round) {
    for (uint32_t i = 1; i < policy_.max_failed_starts; ++i) {
      ASSERT_EQ(tick(), GroupAction::kStart);
      ASSERT_EQ(supervisor_.on_exit("x", now_), GroupAction::kNone);
      pass(until_due());
    }
    start_and_be_ready(seconds(1));
    ASSERT_EQ(supervisor_.on_exit("x", now_), GroupAction::kNone);
    pass(until_due());
  }
}

TEST_F(GroupSupervisorTest, KillsTheJobOfALostGroupAndKeepsTheReason) {
  start_and_be_ready(seconds(1));
  EXPECT_EQ(supervisor_.on_lost(1, "rank 1: no heartbeat"), GroupAction::kKill);
  EXPECT_EQ(supervisor_.on_lost(1, "rank 0: connection closed"), GroupAction::kNone);
  EXPECT_EQ(supervisor_.on_exit("signal 9", now_), GroupAction::kNone);
  EXPECT_EQ(supervisor_.last_reason(), "rank 1: no heartbeat");
  pass(until_due());
  EXPECT_EQ(tick(), GroupAction::kStart);
}

TEST_F(GroupSupervisorTest, IgnoresNewsOfAnEarlierJob) {
  start_and_be_ready(seconds(1));
  EXPECT_EQ(supervisor_.on_exit("signal 9", now_), GroupAction::kNone);
  EXPECT_EQ(supervisor_.on_lost(1, "late"), GroupAction::kNone);
  pass(until_due());
  ASSERT_EQ(tick(), GroupAction::kStart);
  EXPECT_EQ(supervisor_.on_lost(1, "later still"), GroupAction::kNone);
  supervisor_.on_ready(1, now_);
  EXPECT_EQ(supervisor_.state(), GroupState::kStarting);
  supervisor_.on_ready(2, now_);
  EXPECT_EQ(supervisor_.state(), GroupState::kReady);
}

TEST_F(GroupSupervisorTest, KillsAJobThatIsNotReadyInTime) {
  ASSERT_EQ(tick(), GroupAction::kStart);
  EXPECT_EQ(supervisor_.wakeup(), now_ + policy_.start_deadline);
  pass(policy_.start_deadline - milliseconds(1));
  EXPECT_EQ(tick(), GroupAction::kNone);
  pass(milliseconds(1));
  EXPECT_EQ(tick(), GroupAction::kKill);
  EXPECT_EQ(supervisor_.on_exit("signal 9", now_), GroupAction::kNone);
  EXPECT_EQ(supervisor_.num_failed_starts(), 1U);
}

TEST_F(GroupSupervisorTest, DoesNothingMoreWhenStopped) {
  start_and_be_ready(seconds(1));
  supervisor_.stop();
  EXPECT_EQ(supervisor_.on_exit("signal 15", now_), GroupAction::kNone);
  EXPECT_EQ(supervisor_.wakeup(), std::nullopt);
  EXPECT_EQ(tick(), GroupAction::kNone);
}

}  // namespace
}  // namespace beryl::launcher
