#include "worker/service/session.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <memory>

#include "kernels/device_error.h"
#include "parallel/wire/mock_worker.h"
#include "tests/worker/service/fake_coordinator.h"
#include "worker/service/plan_loop.h"

namespace beryl::service {
namespace {

using std::chrono::milliseconds;

class SessionTest : public testing::Test {
 protected:
  using Opened = base::Expected<std::unique_ptr<Session>>;

  std::future<Opened> open(const wire::Secret& secret) {
    return std::async(std::launch::async, [this, &secret] {
      return Session::open({coordinator_.endpoint(), milliseconds(5'000)}, secret,
                           wire::mock_registration(0, 1, "launch"), log_);
    });
  }
  // A session that has been welcomed and runs.
  std::unique_ptr<Session> start(uint32_t heartbeat_deadline_ms = 5'000) {
    auto opening = open(secret_);
    EXPECT_TRUE(coordinator_.greet(secret_));
    Opened opened = opening.get();
    EXPECT_TRUE(opened) << opened.error().message;
    coordinator_.welcome(heartbeat_deadline_ms);
    EXPECT_TRUE((*opened)->wait_for_welcome());
    (*opened)->start({.on_end = [this] { ended_.set_value(); }, .on_stuck = nullptr});
    return *std::move(opened);
  }
  bool wait_for_end() {
    return ended_.get_future().wait_for(FakeCoordinator::kPatience) == std::future_status::ready;
  }
  static wire::Frame plan(uint64_t step) {
    wire::Frame frame;
    frame.mutable_plan()->set_epoch(7);
    frame.mutable_plan()->set_step(step);
    return frame;
  }

  base::Logger log_{"worker", base::LogLevel::kError};
  wire::Secret secret_ = *wire::Secret::from_text("the secret of a session under test");
  FakeCoordinator coordinator_;
  std::promise<void> ended_;
};

TEST_F(SessionTest, RegistersAndWaitsWithHeartbeats) {
  auto opening = open(secret_);
  const auto registration = coordinator_.greet(secret_);
  ASSERT_TRUE(registration);
  EXPECT_EQ(registration->launch_id(), "launch");
  const auto session = *opening.get();
  auto waiting = std::async(std::launch::async, [&] { return session->wait_for_welcome(); });
  const auto heartbeat = coordinator_.receive(wire::Frame::kHeartbeat);
  ASSERT_TRUE(heartbeat);
  EXPECT_EQ(heartbeat->heartbeat().epoch(), 0U);
  coordinator_.welcome(5'000);
  const auto welcome = waiting.get();
  ASSERT_TRUE(welcome);
  EXPECT_EQ(session->epoch(), 7U);
}

TEST_F(SessionTest, PassesPlansAndResults) {
  const auto session = start();
  coordinator_.send(plan(1));
  coordinator_.send(plan(2));
  EXPECT_EQ(session->next_plan()->step(), 1U);
  wire::StepResult result;
  result.set_epoch(7);
  result.set_step(1);
  EXPECT_TRUE(session->send_result(result));
  EXPECT_EQ(coordinator_.receive(wire::Frame::kResult)->result().step(), 1U);
  EXPECT_EQ(session->next_plan()->step(), 2U);
  // Progress is in the heartbeats.
  uint64_t last_step = 0;
  while (last_step != 1) {
    last_step = coordinator_.receive(wire::Frame::kHeartbeat)->heartbeat().last_step();
  }
}

TEST_F(SessionTest, ADeviceThatFailsInAStepIsToldAndEndsTheSession) {
  const auto session = start();
  coordinator_.send(plan(1));
  coordinator_.send(plan(2));
  int num_steps = 0;
  const auto failure = execute_plans(*session, [&](const wire::StepPlan& step) {
    ++num_steps;
    if (step.step() == 2) throw kernels::DeviceError("CUDA: an illegal address");
    wire::StepResult result;
    result.set_epoch(7);
    result.set_step(step.step());
    return base::Expected<wire::StepResult>(result);
  });
  EXPECT_EQ(num_steps, 2);
  ASSERT_TRUE(failure);
  EXPECT_EQ(*failure, "step 2: CUDA: an illegal address");
  EXPECT_EQ(coordinator_.receive(wire::Frame::kResult)->result().error(), "");
  const auto last = coordinator_.receive(wire::Frame::kResult);
  ASSERT_TRUE(last);
  EXPECT_EQ(last->result().step(), 2U);
  EXPECT_EQ(last->result().error(), "CUDA: an illegal address");
  EXPECT_FALSE(session->ended().is_clean);
}

TEST_F(SessionTest, AStepThatFailsOtherwiseIsNoFailureOfTheDevice) {
  const auto session = start();
  coordinator_.send(plan(1));
  const auto failure = execute_plans(*session, [](const wire::StepPlan&) {
    return base::Expected<wire::StepResult>(base::invalid_argument("plan", "out of order"));
  });
  EXPECT_FALSE(failure);
  EXPECT_EQ(coordinator_.receive(wire::Frame::kResult)->result().error(), "out of order");
  EXPECT_FALSE(session->ended().is_clean);
}

TEST_F(SessionTest, AGoodbyeIsAnEndWithoutAFault) {
  const auto session = start();
  wire::Frame frame;
  frame.mutable_goodbye()->set_reason("closing time");
  coordinator_.send(frame);
  ASSERT_TRUE(wait_for_end());
  EXPECT_FALSE(session->next_plan());
  EXPECT_TRUE(session->ended().is_clean);
  EXPECT_EQ(session->ended().reason, "closing time");
}

TEST_F(SessionTest, AClosedConnectionEndsTheEpoch) {
  const auto session = start();
  coordinator_.close();
  ASSERT_TRUE(wait_for_end());
  EXPECT_FALSE(session->ended().is_clean);
  EXPECT_FALSE(session->next_plan());
}

TEST_F(SessionTest, ASilentCoordinatorEndsTheEpoch) {
  const auto session = start(/*heartbeat_deadline_ms=*/60);
  ASSERT_TRUE(wait_for_end());
  EXPECT_NE(session->ended().reason.find("silent"), std::string::npos);
}

TEST_F(SessionTest, TooManyPlansEndTheEpoch) {
  const auto session = start();
  for (uint64_t step = 1; step <= PlanQueue::kMaxPlans + 1; ++step) coordinator_.send(plan(step));
  ASSERT_TRUE(wait_for_end());
  EXPECT_NE(session->ended().reason.find("more plans"), std::string::npos);
  EXPECT_TRUE(coordinator_.receive(wire::Frame::kGoodbye));
}

TEST_F(SessionTest, UnexpectedFramesEndTheEpoch) {
  const auto session = start();
  wire::Frame frame;
  frame.mutable_result()->set_step(1);
  coordinator_.send(frame);
  ASSERT_TRUE(wait_for_end());
}

TEST_F(SessionTest, TellsTheCoordinatorWhyItLeaves) {
  const auto session = start();
  session->end({true, "SIGTERM"});
  const auto goodbye = coordinator_.receive(wire::Frame::kGoodbye);
  ASSERT_TRUE(goodbye);
  EXPECT_EQ(goodbye->goodbye().reason(), "SIGTERM");
  ASSERT_TRUE(wait_for_end());
  session->end({false, "a second reason"});
  EXPECT_TRUE(session->ended().is_clean);
}

TEST_F(SessionTest, RefusesACoordinatorThatDoesNotKnowTheSecret) {
  const wire::Secret other = *wire::Secret::from_text("the secret of somebody else");
  auto opening = open(secret_);
  EXPECT_FALSE(coordinator_.greet(other));
  const Opened opened = opening.get();
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, base::ErrorCode::kUnauthenticated);
}

TEST_F(SessionTest, SaysWhyItWasRefused) {
  auto opening = open(secret_);
  ASSERT_TRUE(coordinator_.greet(secret_));
  const auto session = *opening.get();
  coordinator_.send(wire::reject_frame("rank 0 is there already"));
  const auto welcome = session->wait_for_welcome();
  ASSERT_FALSE(welcome);
  EXPECT_NE(welcome.error().message.find("rank 0 is there already"), std::string::npos);
}

TEST_F(SessionTest, GivesUpWhenNobodyListens) {
  const Opened opened = Session::open({{"127.0.0.1", 1}, milliseconds(150)}, secret_,
                                      wire::mock_registration(0, 1, "launch"), log_);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, base::ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace beryl::service
