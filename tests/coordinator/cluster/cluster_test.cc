// The engine over mock groups: requests come out whole, and only workers that belong join.
#include "coordinator/cluster/cluster.h"

#include <gtest/gtest.h>

#include <random>

#include "parallel/wire/framing.h"
#include "parallel/wire/handshake.h"
#include "parallel/wire/limits.h"
#include "tests/coordinator/cluster/cluster_under_test.h"

namespace beryl::cluster {
namespace {

TEST(ClusterTest, IsUnavailableUntilAGroupIsComplete) {
  ClusterUnderTest cluster;
  Completion completion;
  EXPECT_EQ(cluster->status().state, EngineState::kStarting);
  EXPECT_FALSE(cluster->model());
  const auto refused = cluster->submit(request_of(1, 4), completion.sink());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, base::ErrorCode::kUnavailable);

  const auto rank0 = cluster.start(cluster.worker_options(0, 2, "a"));
  ASSERT_TRUE(cluster.wait_until([&] {
    const auto status = cluster->status();
    return !status.groups.empty() && status.groups[0].state == "1 of 2 ranks are there";
  }));
  EXPECT_EQ(cluster->status().state, EngineState::kStarting);
  const auto rank1 = cluster.start(cluster.worker_options(1, 2, "a"));
  ASSERT_TRUE(cluster.wait_until_state(EngineState::kReady));
  EXPECT_EQ(cluster->model()->vocab_size, 1024U);
  EXPECT_EQ(cluster->status().groups[0].ranks.size(), 2U);
  EXPECT_NE(cluster.events().find(R"({"epoch":1,"event":"group_ready","group":0})"),
            std::string::npos)
      << cluster.events();
}

TEST(ClusterTest, CompletesManyRequests) {
  ClusterUnderTest cluster;
  const auto group = cluster.start_group(3, "a");
  ASSERT_TRUE(cluster.wait_until_state(EngineState::kReady));
  constexpr int kNumRequests = 200;
  std::vector<Completion> completions(kNumRequests);
  for (int i = 0; i < kNumRequests; ++i) {
    ASSERT_TRUE(cluster->submit(request_of(i, 1 + i % 40), completions[i].sink()));
  }
  for (int i = 0; i < kNumRequests; ++i) {
    ASSERT_TRUE(completions[i].wait());
    EXPECT_EQ(completions[i].reason(), scheduler::FinishReason::kLength);
    EXPECT_EQ(completions[i].tokens(), expected_tokens(request_of(i, 1 + i % 40)));
    EXPECT_EQ(completions[i].num_finished(), 1);
  }
  EXPECT_TRUE(cluster.wait_until([&] { return cluster->status().groups[0].kv_usage == 0; }));
  EXPECT_EQ(cluster.metrics().engine(0).finished_length.value(), 200U);
}

TEST(ClusterTest, CancelEndsARequestAndFreesItsBlocks) {
  ClusterUnderTest cluster;
  const auto group = cluster.start_group(1, "a", 0, milliseconds(2));
  ASSERT_TRUE(cluster.wait_until_state(EngineState::kReady));
  Completion completion;
  const auto id = cluster->submit(request_of(1, 4000), completion.sink());
  ASSERT_TRUE(id);
  ASSERT_TRUE(completion.wait_for_tokens(3));
  cluster->cancel(*id);
  ASSERT_TRUE(completion.wait());
  EXPECT_EQ(completion.reason(), scheduler::FinishReason::kAborted);
  EXPECT_TRUE(cluster.wait_until([&] { return cluster->status().groups[0].kv_usage == 0; }));
  cluster->cancel(*id);  // unknown by now
}

TEST(ClusterTest, ADeadlineEndsARequestThatWaits) {
  ClusterUnderTest cluster;
  const auto group = cluster.start_group(1, "a", 0, milliseconds(5));
  ASSERT_TRUE(cluster.wait_until_state(EngineState::kReady));
  GenerationRequest request = request_of(1, 4000);
  request.deadline = std::chrono::steady_clock::now() + milliseconds(100);
  Completion completion;
  ASSERT_TRUE(cluster->submit(request, completion.sink()));
  ASSERT_TRUE(completion.wait());
  EXPECT_EQ(completion.reason(), scheduler::FinishReason::kDeadline);
}

TEST(ClusterTest, AFullQueueRefuses) {
  ClusterOptions options = quick_options();
  options.scheduler.max_queued_requests = 2;
  ClusterUnderTest cluster(options);
  wire::MockWorkerOptions worker = cluster.worker_options(0, 1, "a");
  worker.registration.mutable_cache()->set_max_num_seqs(1);
  worker.step_time = milliseconds(5);
  const auto rank = cluster.start(worker);
  ASSERT_TRUE(cluster.wait_until_state(EngineState::kReady));
  base::ErrorCode code = base::ErrorCode::kInternal;
  for (int i = 0; i < 5; ++i) {
    const auto id = cluster->submit(request_of(i, 1000), Completion().sink());
    if (!id) code = id.error().code;
  }
  EXPECT_EQ(code, base::ErrorCode::kQueueFull);
  GenerationRequest too_long = request_of(1, 5000);
  const auto refused = cluster->submit(too_long, Completion().sink());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, base::ErrorCode::kInvalidArgument);
}

TEST(ClusterTest, DrainRefusesNewRequestsAndWaitsForOthers) {
  ClusterUnderTest cluster;
  const auto group = cluster.start_group(1, "a", 0, milliseconds(2));
  ASSERT_TRUE(cluster.wait_until_state(EngineState::kReady));
  Completion fast;
  Completion endless;
  ASSERT_TRUE(cluster->submit(request_of(1, 20), fast.sink()));
  ASSERT_TRUE(cluster->submit(request_of(2, 4000), endless.sink()));
  EXPECT_EQ(cluster->drain(milliseconds(600)), 1U);
  EXPECT_EQ(fast.reason(), scheduler::FinishReason::kLength);
  EXPECT_EQ(endless.reason(), scheduler::FinishReason::kAborted);
  EXPECT_EQ(cluster->status().state, EngineState::kDraining);
  EXPECT_FALSE(cluster->submit(request_of(3, 4), Completion().sink()));
  cluster->shut_down();
  EXPECT_EQ(group[0]->wait_for_end(kPatience), "goodbye: the coordinator ends");
}

TEST(ClusterTest, RefusesWorkersThatDoNotBelong) {
  ClusterUnderTest cluster;
  const auto group = cluster.start_group(2, "a");
  ASSERT_TRUE(cluster.wait_until_state(EngineState::kReady));

  const wire::Secret other = *wire::Secret::from_text("another secret, of somebody else");
  wire::MockWorker stranger(cluster.worker_options(0, 2, "b"), other);
  EXPECT_NE(stranger.wait_for_end(kPatience).find("secret"), std::string::npos);

  const auto late = cluster.start(cluster.worker_options(1, 2, "a"));
  EXPECT_NE(late->wait_for_end(kPatience).find("launch a is complete"), std::string::npos);

  wire::MockWorkerOptions options = cluster.worker_options(0, 1, "c");
  options.registration.mutable_model()->set_fingerprint(5);
  const auto other_model = cluster.start(options);
  EXPECT_NE(other_model->wait_for_end(kPatience).find("another model"), std::string::npos);

  options = cluster.worker_options(0, 1, "d");
  options.registration.mutable_cache()->set_block_size(0);
  const auto invalid = cluster.start(options);
  EXPECT_NE(invalid->wait_for_end(kPatience).find("block_size"), std::string::npos);

  Completion completion;
  ASSERT_TRUE(cluster->submit(request_of(1, 10), completion.sink()));
  ASSERT_TRUE(completion.wait());
  EXPECT_EQ(completion.tokens(), expected_tokens(request_of(1, 10)));
}

TEST(ClusterTest, OtherProtocolVersionsAreTold) {
  ClusterUnderTest cluster;
  auto connection = wire::Connection::dial({"127.0.0.1", cluster->worker_port()}, kPatience);
  ASSERT_TRUE(connection);
  wire::Frame hello = wire::WorkerHandshake(cluster.secret()).hello();
  hello.mutable_hello()->set_protocol_version(99);
  ASSERT_TRUE(connection->send(hello, wire::kMaxHandshakeFrameBytes, kPatience));
  const auto answer = connection->receive(wire::kMaxHandshakeFrameBytes, kPatience);
  ASSERT_TRUE(answer);
  ASSERT_TRUE(answer->has_reject());
  EXPECT_NE(answer->reject().reason().find("protocol version"), std::string::npos);
}

// Whatever bytes strangers send, the group that serves does not notice.
TEST(ClusterTest, SurvivesStrangersWithRandomBytes) {
  ClusterUnderTest cluster;
  const auto group = cluster.start_group(1, "a");
  ASSERT_TRUE(cluster.wait_until_state(EngineState::kReady));
  std::mt19937_64 random(20'260'102);
  for (int i = 0; i < 300; ++i) {
    auto connection = wire::Connection::dial({"127.0.0.1", cluster->worker_port()}, kPatience);
    ASSERT_TRUE(connection);
    std::string bytes =
        *wire::encode_frame(wire::WorkerHandshake(cluster.secret()).hello(), 1 << 16);
    if (i % 3 == 0) bytes.resize(random() % 64);
    for (size_t edits = 0; edits < 1 + random() % 8 && !bytes.empty(); ++edits) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    (void)connection->send_bytes(bytes, milliseconds(100));
  }
  Completion completion;
  ASSERT_TRUE(cluster->submit(request_of(1, 10), completion.sink()));
  ASSERT_TRUE(completion.wait());
  EXPECT_EQ(completion.tokens(), expected_tokens(request_of(1, 10)));
}

TEST(ClusterTest, SpreadsRequestsOverGroups) {
  ClusterUnderTest cluster;
  const auto group0 = cluster.start_group(1, "a", 0, milliseconds(1));
  const auto group1 = cluster.start_group(1, "b", 1, milliseconds(1));
  ASSERT_TRUE(cluster.wait_until([&] {
    const auto status = cluster->status();
    return status.groups.size() == 2 && status.groups[0].epoch > 0 && status.groups[1].epoch > 0;
  }));
  std::vector<Completion> completions(40);
  for (int i = 0; i < 40; ++i) {
    ASSERT_TRUE(cluster->submit(request_of(i, 100), completions[i].sink()));
  }
  for (const Completion& completion : completions) ASSERT_TRUE(completion.wait());
  EXPECT_GE(cluster.metrics().engine(0).finished_length.value(), 10U);
  EXPECT_GE(cluster.metrics().engine(1).finished_length.value(), 10U);
}

}  // namespace
}  // namespace beryl::cluster
