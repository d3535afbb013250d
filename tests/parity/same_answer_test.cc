// The same bits however a request is computed: pieces, decode, batch-mates, ranks, exchange mode.
#include <gtest/gtest.h>

#include <mutex>
#include <string>
#include <vector>

#include "bench/model/local_ranks.h"
#include "tests/parity/ways.h"

namespace beryl::bench {
namespace {

SubjectModel tiny_model() {
  SubjectModel subject{.directory = BERYL_SOURCE_DIR "/tests/data/tiny", .token_ids = {2}};
  // 44 tokens: well past the window of 16 and several blocks of 8.
  for (int i = 1; i < 44; ++i) subject.token_ids.push_back((i * 389 + 17) % 1024);
  return subject;
}

SubjectModel narrow_model() {
  SubjectModel subject{.directory = BERYL_SOURCE_DIR "/tests/data/narrow", .seed = 20261124};
  for (int i = 0; i < 72; ++i) subject.token_ids.push_back((i * 197 + 5) % 1024);
  return subject;
}

// Pictures of 15 and 20 soft tokens, the second one longer than the window of 16.
SubjectModel tiny_model_with_pictures() {
  SubjectModel subject = tiny_model();
  for (int i = 44; i < 60; ++i) subject.token_ids.push_back((i * 389 + 17) % 1024);
  subject.pictures = {{.position = 5, .height = 144, .width = 240},
                      {.position = 21, .height = 240, .width = 192}};
  return subject;
}

// A picture of 70 soft tokens, longer than the window of 64.
SubjectModel narrow_model_with_a_picture() {
  SubjectModel subject = narrow_model();
  for (int i = 72; i < 90; ++i) subject.token_ids.push_back((i * 197 + 5) % 1024);
  subject.pictures = {{.position = 9, .height = 336, .width = 480}};
  return subject;
}

// Of the ways, merged over ranks.
std::vector<Trace> traces_on_ranks(const SubjectModel& subject, const std::vector<Way>& ways,
                                   const ComputeOptions& options, int num_ranks) {
  std::vector<Trace> merged(ways.size());
  std::mutex mutex;
  run_local_ranks(num_ranks, [&](comm::Communicator& communicator) {
    std::vector<Trace> mine = compute_traces(subject, ways, options, communicator);
    const std::scoped_lock lock(mutex);
    for (size_t i = 0; i < ways.size(); ++i) {
      if (ways[i].home_rank % num_ranks == communicator.rank()) merged[i] = std::move(mine[i]);
    }
  });
  return merged;
}

Trace reference_trace(const SubjectModel& subject, const ComputeOptions& options) {
  const std::vector<Way> ways = all_ways(static_cast<int>(subject.token_ids.size()));
  return traces_on_ranks(subject, {ways.front()}, options, 1).front();
}

void expect_same_answer(const SubjectModel& subject, int num_ranks, const ComputeOptions& options) {
  const Trace expected = reference_trace(subject, options);
  ASSERT_EQ(expected.size(), subject.token_ids.size());
  const std::vector<Way> ways = all_ways(static_cast<int>(subject.token_ids.size()));
  const std::vector<Trace> traces = traces_on_ranks(subject, ways, options, num_ranks);
  for (size_t i = 0; i < ways.size(); ++i) {
    const auto difference = first_difference(expected, traces[i]);
    EXPECT_FALSE(difference) << ways[i].name << " on " << num_ranks
                             << " ranks: first difference at " << *difference;
  }
}

class SameAnswerTest : public testing::TestWithParam<int> {};

TEST_P(SameAnswerTest, TinyModel) {
  expect_same_answer(tiny_model(), GetParam(), {});
}

TEST_P(SameAnswerTest, NarrowModel) {
  expect_same_answer(narrow_model(), GetParam(), {});
}

TEST_P(SameAnswerTest, TinyModelWithPictures) {
  expect_same_answer(tiny_model_with_pictures(), GetParam(), {});
}

TEST_P(SameAnswerTest, NarrowModelWithAPicture) {
  expect_same_answer(narrow_model_with_a_picture(), GetParam(), {});
}

INSTANTIATE_TEST_SUITE_P(Ranks, SameAnswerTest, testing::Values(1, 2, 4, 8),
                         [](const auto& info) { return std::to_string(info.param) + "Ranks"; });

TEST(SameAnswerControlTest, ThreadsDoNotMatter) {
  for (const SubjectModel& subject : {tiny_model(), tiny_model_with_pictures()}) {
    EXPECT_FALSE(first_difference(reference_trace(subject, {.num_threads = 1}),
                                  reference_trace(subject, {.num_threads = 3})));
  }
}

// Soft tokens that do not see the later ones of their picture: noticed on the first sliding layer,
// at the first soft token.
TEST(SameAnswerControlTest, ACausalPictureIsNoticed) {
  const SubjectModel subject = tiny_model_with_pictures();
  const auto difference =
      first_difference(reference_trace(subject, {}),
                       reference_trace(subject, {.fault = PlantedFault::kCausalSpans}));
  ASSERT_TRUE(difference.has_value());
  EXPECT_EQ(difference->find("layer 0, position 5: "), 0u) << *difference;
}

// The check itself: a sum in another order is noticed, and the first layer is named.
TEST(SameAnswerControlTest, APermutedSumIsNoticed) {
  const SubjectModel subject = tiny_model();
  const Trace expected = reference_trace(subject, {});
  const Trace permuted = reference_trace(subject, {.fault = PlantedFault::kPermuteSum});
  const auto difference = first_difference(expected, permuted);
  ASSERT_TRUE(difference.has_value());
  EXPECT_EQ(difference->find("layer 0, position "), 0u) << *difference;
}

TEST(SameAnswerControlTest, ALostPositionIsNoticed) {
  const SubjectModel subject = tiny_model();
  const Trace expected = reference_trace(subject, {});
  Trace shorter = expected;
  shorter.erase(shorter.begin());
  EXPECT_TRUE(first_difference(expected, shorter).has_value());
}

}  // namespace
}  // namespace beryl::bench
