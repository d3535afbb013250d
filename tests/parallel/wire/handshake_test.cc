#include "parallel/wire/handshake.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "parallel/wire/auth.h"
#include "parallel/wire/limits.h"
#include "tests/parallel/wire/sample_messages.h"

namespace beryl::wire {
namespace {

Secret secret_of(const std::string& text) {
  return *Secret::from_text(text);
}

const std::string kSecret = "a secret of the test cluster";

TEST(WireHandshakeTest, BothSidesAgreeWithOneSecret) {
  const Secret secret = secret_of(kSecret);
  const WorkerHandshake worker(secret);
  CoordinatorHandshake coordinator(secret);
  const auto challenge = coordinator.on_hello(worker.hello());
  ASSERT_TRUE(challenge);
  const auto answer = worker.on_challenge(*challenge, sample_registration());
  ASSERT_TRUE(answer) << answer.error().message;
  const auto registration = coordinator.on_registration(*answer);
  ASSERT_TRUE(registration) << registration.error().message;
  EXPECT_EQ(registration->launch_id(), "launch-1");
}

TEST(WireHandshakeTest, TheWorkerRefusesACoordinatorWithAnotherSecret) {
  const Secret ours = secret_of(kSecret);
  const Secret theirs = secret_of(kSecret + "!");
  const WorkerHandshake worker(ours);
  CoordinatorHandshake coordinator(theirs);
  const auto answer =
      worker.on_challenge(*coordinator.on_hello(worker.hello()), sample_registration());
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, base::ErrorCode::kUnauthenticated);
  EXPECT_EQ(answer.error().message.find(kSecret), std::string::npos);
}

TEST(WireHandshakeTest, TheCoordinatorRefusesAProofOfAnotherConversationOrRole) {
  const Secret secret = secret_of(kSecret);
  const WorkerHandshake worker(secret);
  CoordinatorHandshake first(secret);
  CoordinatorHandshake second(secret);
  const auto old_answer =
      worker.on_challenge(*first.on_hello(worker.hello()), sample_registration());
  const auto challenge = second.on_hello(worker.hello());
  EXPECT_FALSE(second.on_registration(*old_answer));  // replayed

  Frame reflected;
  *reflected.mutable_registration() = sample_registration();
  reflected.mutable_registration()->set_proof(challenge->challenge().proof());
  const auto registration = second.on_registration(reflected);
  ASSERT_FALSE(registration);
  EXPECT_EQ(registration.error().code, base::ErrorCode::kUnauthenticated);
}

BulkRegistration sample_bulk() {
  BulkRegistration bulk;
  bulk.set_launch_id("launch-1");
  bulk.set_rank(1);
  return bulk;
}

TEST(WireHandshakeTest, TheSecondConnectionProvesTheSameSecret) {
  const Secret secret = secret_of(kSecret);
  const WorkerHandshake worker(secret);
  CoordinatorHandshake coordinator(secret);
  const auto challenge = coordinator.on_hello(worker.hello());
  const auto answer = worker.on_challenge(*challenge, sample_bulk());
  ASSERT_TRUE(answer);
  const auto bulk = coordinator.on_bulk_registration(*answer);
  ASSERT_TRUE(bulk) << bulk.error().message;
  EXPECT_EQ(bulk->rank(), 1U);
  EXPECT_FALSE(coordinator.on_registration(*answer));  // neither stands for the other
  EXPECT_FALSE(
      coordinator.on_bulk_registration(*worker.on_challenge(*challenge, sample_registration())));

  CoordinatorHandshake other(secret);  // a proof of another conversation
  ASSERT_TRUE(other.on_hello(worker.hello()));
  const auto replayed = other.on_bulk_registration(*answer);
  ASSERT_FALSE(replayed);
  EXPECT_EQ(replayed.error().code, base::ErrorCode::kUnauthenticated);
}

TEST(WireHandshakeTest, ABulkRegistrationWithAnotherSecretIsRefused) {
  const Secret ours = secret_of(kSecret);
  const Secret theirs = secret_of(kSecret + "!");
  const WorkerHandshake worker(theirs);
  CoordinatorHandshake coordinator(ours);
  const auto challenge = coordinator.on_hello(worker.hello());
  EXPECT_FALSE(worker.on_challenge(*challenge, sample_bulk()));
  Frame forged;
  *forged.mutable_bulk_registration() = sample_bulk();
  forged.mutable_bulk_registration()->set_proof(make_proof(
      theirs, Role::kWorker, challenge->challenge().nonce(), worker.hello().hello().nonce()));
  const auto bulk = coordinator.on_bulk_registration(forged);
  ASSERT_FALSE(bulk);
  EXPECT_EQ(bulk.error().code, base::ErrorCode::kUnauthenticated);
}

TEST(WireHandshakeTest, VersionsMustBeEqual) {
  const Secret secret = secret_of(kSecret);
  const WorkerHandshake worker(secret);
  CoordinatorHandshake coordinator(secret);
  Frame hello = worker.hello();
  hello.mutable_hello()->set_protocol_version(kProtocolVersion + 1);
  const auto challenge = coordinator.on_hello(hello);
  ASSERT_FALSE(challenge);
  EXPECT_NE(challenge.error().message.find("protocol version"), std::string::npos);

  // What the worker says about the refusal it gets instead.
  const auto answer =
      worker.on_challenge(reject_frame(challenge.error().message), sample_registration());
  ASSERT_FALSE(answer);
  EXPECT_NE(answer.error().message.find("protocol version"), std::string::npos);
}

TEST(WireHandshakeTest, NothingIsAcceptedOutOfOrder) {
  const Secret secret = secret_of(kSecret);
  const WorkerHandshake worker(secret);
  CoordinatorHandshake coordinator(secret);
  Frame registration;
  *registration.mutable_registration() = sample_registration();
  registration.mutable_registration()->set_proof(make_proof(secret, Role::kWorker, "", ""));
  EXPECT_FALSE(coordinator.on_registration(registration));
  EXPECT_FALSE(coordinator.on_hello(registration));
  EXPECT_FALSE(worker.on_challenge(worker.hello(), sample_registration()));
  Frame short_nonce = worker.hello();
  short_nonce.mutable_hello()->set_nonce("x");
  EXPECT_FALSE(coordinator.on_hello(short_nonce));
}

TEST(WireSecretTest, ComesFromFileOrEnvironment) {
  EXPECT_FALSE(Secret::from_text("short"));
  EXPECT_FALSE(Secret::from_text(std::string(kMaxSecretBytes + 1, 'x')));
  const std::string path = testing::TempDir() + "/beryl_secret_test";
  std::ofstream(path) << kSecret << "\n";
  EXPECT_EQ(Secret::load(path)->bytes(), kSecret);
  std::remove(path.c_str());
  EXPECT_FALSE(Secret::load(path));
  ::unsetenv(kSecretVariable);
  EXPECT_FALSE(Secret::load(""));
  ::setenv(kSecretVariable, kSecret.c_str(), 1);
  EXPECT_EQ(Secret::load("")->bytes(), kSecret);
  EXPECT_EQ(Secret::generate().bytes().size(), 2 * kNonceBytes);
  EXPECT_NE(Secret::generate().bytes(), Secret::generate().bytes());
}

}  // namespace
}  // namespace beryl::wire
