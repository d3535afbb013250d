// Pictures on their way to mock ranks: sent to the rank that encodes them, over its second
// connection, as often as it takes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "coordinator/cluster/cluster.h"
#include "coordinator/cluster/picture_book.h"
#include "coordinator/cluster/prompt_pictures.h"
#include "parallel/wire/greet.h"
#include "parallel/wire/limits.h"
#include "tests/coordinator/cluster/cluster_under_test.h"
#include "tests/coordinator/cluster/picture_request.h"

namespace beryl::cluster {
namespace {

using testing::HasSubstr;

constexpr int32_t kPlaceholder = 19;

GenerationRequest picture_request(int32_t number, std::vector<uint8_t> contents,
                                  uint32_t max_tokens) {
  GenerationRequest request = request_of(number, max_tokens);
  for (const uint8_t content : contents) {
    append_picture(request, test_image(4, content), kPlaceholder);
    request.prompt_token_ids.push_back(21);
  }
  return request;
}

class ClusterPictureTest : public testing::Test {
 protected:
  ClusterUnderTest::Group start_group(uint32_t num_ranks, const std::string& launch_id,
                                      milliseconds bulk_delay = milliseconds(0)) {
    ClusterUnderTest::Group ranks;
    for (uint32_t rank = 0; rank < num_ranks; ++rank) {
      ranks.push_back(cluster_.start(options_of(rank, num_ranks, launch_id, bulk_delay)));
    }
    return ranks;
  }
  wire::MockWorkerOptions options_of(uint32_t rank, uint32_t num_ranks,
                                     const std::string& launch_id,
                                     milliseconds bulk_delay = milliseconds(0)) {
    wire::MockWorkerOptions options = cluster_.worker_options(rank, num_ranks, launch_id);
    take_pictures(options.registration);
    options.bulk_delay = bulk_delay;
    return options;
  }
  static uint64_t num_pictures(const ClusterUnderTest::Group& group) {
    uint64_t sum = 0;
    for (const auto& rank : group) sum += rank->num_pictures();
    return sum;
  }
  void expect_answers(const std::vector<GenerationRequest>& requests) {
    std::vector<Completion> completions(requests.size());
    for (size_t i = 0; i < requests.size(); ++i) {
      const auto id = cluster_->submit(requests[i], completions[i].sink());
      ASSERT_TRUE(id) << id.error().message;
    }
    for (size_t i = 0; i < requests.size(); ++i) {
      ASSERT_TRUE(completions[i].wait());
      EXPECT_EQ(completions[i].tokens(), expected_tokens(requests[i])) << completions[i].error();
    }
  }
  // What a second connection that says this is told.
  std::string refusal(const wire::BulkRegistration& bulk, const wire::Secret& secret) {
    auto connection = wire::Connection::dial({"127.0.0.1", cluster_->worker_port()}, kPatience);
    if (!connection) return connection.error().message;
    if (auto status = wire::greet(*connection, secret, bulk); !status)
      return status.error().message;
    const auto frame = connection->receive(wire::kMaxHandshakeFrameBytes, kPatience);
    if (!frame) return frame.error().message;
    return frame->has_reject() ? frame->reject().reason() : "accepted";
  }
  static wire::BulkRegistration bulk_of(const std::string& launch_id, uint32_t rank,
                                        uint32_t group = 0) {
    wire::BulkRegistration bulk;
    bulk.set_launch_id(launch_id);
    bulk.set_rank(rank);
    bulk.set_group(group);
    return bulk;
  }

  ClusterUnderTest cluster_;
};

TEST_F(ClusterPictureTest, PicturesComeToTheRanksThatEncodeThem) {
  const auto group = start_group(3, "a");
  ASSERT_TRUE(cluster_.wait_until_state(EngineState::kReady));
  EXPECT_TRUE(cluster_->model()->accepts_media);
  EXPECT_EQ(cluster_->model()->max_picture_tokens, 64U);
  std::vector<GenerationRequest> requests;
  for (int32_t i = 0; i < 12; ++i) {
    const auto content = static_cast<uint8_t>(10 + i);
    requests.push_back(picture_request(i, {content, 200}, 10));
  }
  expect_answers(requests);
  EXPECT_GE(num_pictures(group), 13U);  // each at least once, that of all requests too
}

TEST_F(ClusterPictureTest, PicturesWaitForTheSecondConnection) {
  const auto group = start_group(2, "a", milliseconds(300));
  ASSERT_TRUE(cluster_.wait_until_state(EngineState::kReady));
  std::vector<GenerationRequest> requests;
  for (int32_t i = 0; i < 4; ++i)
    requests.push_back(picture_request(i, {static_cast<uint8_t>(i + 1)}, 5));
  expect_answers(requests);
  EXPECT_EQ(num_pictures(group), 4U);
}

TEST_F(ClusterPictureTest, APictureGoesWithItsRequestToTheNextEpoch) {
  wire::MockWorkerOptions options = options_of(0, 1, "a");
  options.fault = wire::MockFault::kClose;
  options.fault_step = 4;
  const auto first = cluster_.start(options);
  ASSERT_TRUE(cluster_.wait_until_state(EngineState::kReady));
  const GenerationRequest request = picture_request(1, {50}, 40);
  Completion completion;
  ASSERT_TRUE(cluster_->submit(request, completion.sink()));
  ASSERT_TRUE(cluster_.wait_until_state(EngineState::kDegraded));
  EXPECT_EQ(first->num_pictures(), 1U);
  const auto second = start_group(1, "b");
  ASSERT_TRUE(completion.wait());
  EXPECT_EQ(completion.tokens(), expected_tokens(request));
  EXPECT_EQ(num_pictures(second), 1U);
}

TEST_F(ClusterPictureTest, APictureGoesWithItsRequestToAnotherGroup) {
  wire::MockWorkerOptions options = options_of(0, 1, "a");
  options.step_time = milliseconds(2);
  options.fault = wire::MockFault::kClose;
  options.fault_step = 10;
  const auto doomed = cluster_.start(options);
  ASSERT_TRUE(cluster_.wait_until_state(EngineState::kReady));
  std::vector<GenerationRequest> requests;
  for (int32_t i = 0; i < 4; ++i) {
    requests.push_back(picture_request(i, {static_cast<uint8_t>(i + 1)}, 400));
  }
  std::vector<Completion> completions(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    ASSERT_TRUE(cluster_->submit(requests[i], completions[i].sink()));
  }
  ASSERT_TRUE(completions.back().wait_for_tokens(1));
  options = options_of(0, 1, "b");
  options.registration.set_group(1);
  const auto refuge = cluster_.start(options);
  for (size_t i = 0; i < requests.size(); ++i) {
    ASSERT_TRUE(completions[i].wait());
    EXPECT_EQ(completions[i].tokens(), expected_tokens(requests[i])) << completions[i].error();
  }
  EXPECT_EQ(refuge->num_pictures(), requests.size());
}

TEST_F(ClusterPictureTest, AClosedSecondConnectionIsALostRank) {
  wire::MockWorkerOptions options = options_of(0, 1, "a");
  options.fault = wire::MockFault::kCloseBulk;
  options.fault_step = 3;
  const auto rank = cluster_.start(options);
  ASSERT_TRUE(cluster_.wait_until_state(EngineState::kReady));
  ASSERT_TRUE(cluster_->submit(picture_request(1, {50}, 400), Completion().sink()));
  ASSERT_TRUE(cluster_.wait_until_state(EngineState::kDegraded));
  EXPECT_THAT(cluster_.events(), HasSubstr("the worker closed the connection"));
}

TEST_F(ClusterPictureTest, RefusesSecondConnectionsThatDoNotBelong) {
  EXPECT_EQ(refusal(bulk_of("a", 0), cluster_.secret()), "group 0 is not there");
  const auto group = start_group(2, "a", milliseconds(60'000));
  ASSERT_TRUE(cluster_.wait_until_state(EngineState::kReady));
  const wire::Secret other = *wire::Secret::from_text("another secret, of somebody else");
  EXPECT_THAT(refusal(bulk_of("a", 0), other), HasSubstr("secret"));
  EXPECT_EQ(refusal(bulk_of("b", 0), cluster_.secret()), "launch b has no epoch");
  EXPECT_EQ(refusal(bulk_of("a", 2), cluster_.secret()), "rank 2 of 2 ranks");
  EXPECT_EQ(refusal(bulk_of("a", 0, 3), cluster_.secret()), "group 3 is not there");

  auto first = wire::Connection::dial({"127.0.0.1", cluster_->worker_port()}, kPatience);
  ASSERT_TRUE(first);
  ASSERT_TRUE(wire::greet(*first, cluster_.secret(), bulk_of("a", 1)));
  // Registration is one thread, so the second comes after it.
  EXPECT_EQ(refusal(bulk_of("a", 1), cluster_.secret()),
            "rank 1 has its second connection already");
  EXPECT_EQ(cluster_->status().state, EngineState::kReady);
}

TEST_F(ClusterPictureTest, AModelWithoutAVisionTowerTakesNoPictures) {
  const auto group = cluster_.start_group(1, "a");
  ASSERT_TRUE(cluster_.wait_until_state(EngineState::kReady));
  EXPECT_FALSE(cluster_->model()->accepts_media);
  const auto refused = cluster_->submit(picture_request(1, {50}, 4), Completion().sink());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, base::ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused.error().message, "this model takes no pictures");
  EXPECT_EQ(refusal(bulk_of("a", 0), cluster_.secret()), "this group takes no pictures");
}

TEST_F(ClusterPictureTest, ATooLargePictureIsTheClientsFault) {
  const auto group = start_group(1, "a");
  ASSERT_TRUE(cluster_.wait_until_state(EngineState::kReady));
  GenerationRequest request = request_of(1, 4);
  append_picture(request, test_image(65, 1), kPlaceholder);
  const auto refused = cluster_->submit(request, Completion().sink());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, base::ErrorCode::kInvalidArgument);
  EXPECT_THAT(refused.error().message, HasSubstr("65 soft tokens, this server takes up to 64"));
}

TEST(PictureBookTest, KeepsPixelsAsLongAsARequestHasThem) {
  PictureBook book;
  const std::vector<media::PlacedImage> first = {{test_image(2, 1), 0}, {test_image(2, 2), 5}};
  const std::vector<media::PlacedImage> second = {{test_image(2, 2), 3}, {test_image(2, 2), 9}};
  book.add(first);
  book.add(second);
  EXPECT_EQ(book.size(), 2U);
  book.remove(first);
  EXPECT_EQ(book.find(to_key(first[0].image->hash)), nullptr);
  EXPECT_NE(book.find(to_key(first[1].image->hash)), nullptr);
  book.remove(second);
  EXPECT_EQ(book.size(), 0U);
}

TEST(PromptPicturesTest, KeysAreTheHashInOrder) {
  media::ContentHash hash = {};
  for (size_t i = 0; i < hash.size(); ++i) hash[i] = static_cast<uint8_t>(i + 1);
  EXPECT_EQ(to_key(hash), (scheduler::PictureKey{0x0102030405060708, 0x090A0B0C0D0E0F10}));
  const auto spans = to_spans({{test_image(3, 9), 7}});
  ASSERT_EQ(spans.size(), 1U);
  EXPECT_EQ(spans[0].start, 7U);
  EXPECT_EQ(spans[0].num_tokens, 3U);
  EXPECT_EQ(spans[0].num_patches, 27U);
}

}  // namespace
}  // namespace beryl::cluster
