// Ranks that die, freeze or lie while requests run: the epoch ends, the group comes back, and every
// request ends with the text it would have had.
#include <gtest/gtest.h>

#include <ostream>
#include <string>

#include "tests/coordinator/cluster/cluster_under_test.h"

namespace beryl::cluster {
namespace {

using wire::MockFault;

struct FaultCase {
  const char* name;
  MockFault fault;
  const char* reason;  // a part of what the launcher is told
};

void PrintTo(const FaultCase& fault, std::ostream* out) {
  *out << fault.name;
}

class ClusterFaultTest : public testing::TestWithParam<FaultCase> {};

TEST_P(ClusterFaultTest, RequestsContinueWithTheSameTokens) {
  ClusterOptions options_of_cluster = quick_options();
  // Where silence is not the fault, the silence of a busy machine must not come first.
  if (GetParam().fault != MockFault::kFreeze) options_of_cluster.heartbeat_deadline = kPatience;
  ClusterUnderTest cluster(options_of_cluster);
  ClusterUnderTest::Group first;
  for (uint32_t rank = 0; rank < 2; ++rank) {
    wire::MockWorkerOptions options = cluster.worker_options(rank, 2, "first");
    options.step_time = std::chrono::microseconds(500);
    if (rank == 1) {
      options.fault = GetParam().fault;
      options.fault_step = 12;
    }
    first.push_back(cluster.start(options));
  }
  ASSERT_TRUE(cluster.wait_until_state(EngineState::kReady));
  constexpr int kNumRequests = 16;
  std::vector<Completion> completions(kNumRequests);
  for (int i = 0; i < kNumRequests; ++i) {
    ASSERT_TRUE(cluster->submit(request_of(i, 60), completions[i].sink()));
  }
  ASSERT_TRUE(cluster.wait_until([&] {
    return cluster.events().find("group_lost") != std::string::npos;
  })) << "the fault was not noticed";
  const std::string events = cluster.events();
  EXPECT_NE(events.find(GetParam().reason), std::string::npos) << events;
  // The survivor is told, so that it does not wait for its peer.
  EXPECT_FALSE(first[0]->wait_for_end(kPatience).empty());

  const auto second = cluster.start_group(2, "second");
  for (int i = 0; i < kNumRequests; ++i) {
    ASSERT_TRUE(completions[i].wait());
    EXPECT_EQ(completions[i].reason(), scheduler::FinishReason::kLength) << completions[i].error();
    EXPECT_EQ(completions[i].tokens(), expected_tokens(request_of(i, 60)));
    EXPECT_EQ(completions[i].num_finished(), 1);
  }
  EXPECT_NE(cluster.events().find("group_serving"), std::string::npos);
  EXPECT_EQ(second[0]->epoch(), 2U);
  // A frozen rank that wakes up later finds its place taken.
  const auto zombie = cluster.start(cluster.worker_options(1, 2, "first"));
  EXPECT_NE(zombie->wait_for_end(kPatience).find("launch first is over"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(
    Faults, ClusterFaultTest,
    testing::Values(FaultCase{"Close", MockFault::kClose, "closed the connection"},
                    FaultCase{"Freeze", MockFault::kFreeze, "rank 1 is silent"},
                    FaultCase{"StuckStep", MockFault::kStuckStep, "has not finished step 12"},
                    FaultCase{"WrongEpoch", MockFault::kWrongEpoch, "result of epoch 0"},
                    FaultCase{"WrongStep", MockFault::kWrongStep, "without being asked"},
                    FaultCase{"WrongHandle", MockFault::kWrongHandle, "not asked for"},
                    FaultCase{"WrongToken", MockFault::kWrongToken, "token 1024"},
                    FaultCase{"TwoResults", MockFault::kTwoResults, "rank 1"},
                    FaultCase{"StepError", MockFault::kStepError, "was told to fail"},
                    FaultCase{"HugeFrame", MockFault::kHugeFrame, "4294967295 bytes"},
                    FaultCase{"Garbage", MockFault::kGarbage, "no message"},
                    FaultCase{"UnexpectedFrame", MockFault::kUnexpectedFrame, "unexpected"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(ClusterFailoverTest, RequestsOfALostGroupContinueOnAnother) {
  ClusterUnderTest cluster;
  wire::MockWorkerOptions doomed = cluster.worker_options(0, 1, "doomed");
  doomed.registration.set_group(0);
  doomed.step_time = milliseconds(1);
  doomed.fault = MockFault::kClose;
  doomed.fault_step = 20;
  const auto group0 = cluster.start(doomed);
  const auto group1 = cluster.start_group(2, "b", 1, milliseconds(1));
  ASSERT_TRUE(cluster.wait_until([&] {
    const auto status = cluster->status();
    return status.groups.size() == 2 && status.groups[0].epoch > 0 && status.groups[1].epoch > 0;
  }));
  constexpr int kNumRequests = 20;
  std::vector<Completion> completions(kNumRequests);
  for (int i = 0; i < kNumRequests; ++i) {
    ASSERT_TRUE(cluster->submit(request_of(i, 100), completions[i].sink()));
  }
  for (int i = 0; i < kNumRequests; ++i) {
    ASSERT_TRUE(completions[i].wait());
    EXPECT_EQ(completions[i].tokens(), expected_tokens(request_of(i, 100)));
    EXPECT_EQ(completions[i].num_finished(), 1);
  }
  EXPECT_EQ(cluster->status().state, EngineState::kReady);
  EXPECT_NE(cluster.events().find("group_lost"), std::string::npos);
}

TEST(ClusterFailoverTest, CancelReachesARequestThatWaitsForItsGroup) {
  ClusterUnderTest cluster;
  auto group = cluster.start_group(1, "a", 0, milliseconds(1));
  ASSERT_TRUE(cluster.wait_until_state(EngineState::kReady));
  Completion completion;
  const auto id = cluster->submit(request_of(1, 4000), completion.sink());
  ASSERT_TRUE(completion.wait_for_tokens(3));
  group.clear();
  ASSERT_TRUE(cluster.wait_until_state(EngineState::kDegraded));
  cluster->cancel(*id);
  ASSERT_TRUE(completion.wait());
  EXPECT_EQ(completion.reason(), scheduler::FinishReason::kAborted);
}

TEST(ClusterFailoverTest, ARequestThatIsLostAgainAndAgainFails) {
  ClusterUnderTest cluster;
  Completion completion;
  bool submitted = false;
  for (int launch = 0; launch < 4; ++launch) {
    wire::MockWorkerOptions options = cluster.worker_options(0, 1, std::to_string(launch));
    options.fault = MockFault::kClose;
    const auto rank = cluster.start(options);
    if (!submitted) {
      ASSERT_TRUE(cluster.wait_until_state(EngineState::kReady));
      ASSERT_TRUE(cluster->submit(request_of(1, 10), completion.sink()));
      submitted = true;
    }
    ASSERT_FALSE(rank->wait_for_end(kPatience).empty());
    ASSERT_TRUE(cluster.wait_until_state(EngineState::kDegraded));
  }
  ASSERT_TRUE(completion.wait());
  EXPECT_EQ(completion.reason(), scheduler::FinishReason::kError);
}

}  // namespace
}  // namespace beryl::cluster
