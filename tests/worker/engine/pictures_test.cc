// Pictures of requests: which rows take features, what they see, and what a plan may not do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/worker/engine/executor_fixture.h"
#include "worker/engine/feature_store.h"

namespace beryl::engine {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint32_t kMaxFeatureTokens = 8;

// Features of picture n are 10 n, 10 n + 1 …
class CountingJobs final : public FeatureJobs {
 public:
  explicit CountingJobs(kernels::Ops& ops) : ops_(ops) {}

  base::Status run(const wire::StepPlan& plan, FeatureStore& store) override {
    for (const wire::FeatureJob& job : plan.feature_jobs()) {
      if (job.destination() != 1) continue;
      model::Features features(ops_, job.num_tokens(), 3);
      for (uint32_t i = 0; i < job.num_tokens(); ++i) {
        *features.view().rows(i, 1).f32() = static_cast<float>(10 * job.key().low() + i);
      }
      if (auto status = store.put(picture_key(job.key()), std::move(features)); !status) {
        return status;
      }
    }
    return base::Status::ok();
  }

 private:
  kernels::Ops& ops_;
};

struct Place {
  uint64_t picture;
  uint32_t start;
  uint32_t num_tokens;
};

class PicturesTest : public StepExecutorTest {
 protected:
  static wire::GroupLimits limits() {
    wire::GroupLimits limits = test_limits();
    limits.cache.set_num_feature_tokens(kMaxFeatureTokens);
    return limits;
  }
  static void add_job(wire::StepPlan& plan, uint64_t picture, uint32_t num_tokens,
                      uint32_t destination = 1) {
    wire::FeatureJob& job = *plan.add_feature_jobs();
    job.mutable_key()->set_low(picture);
    job.set_num_tokens(num_tokens);
    job.set_destination(destination);
    job.set_encode(true);
  }
  // A plan that admits handle 1 with 12 tokens and these pictures.
  wire::StepPlan admit_with(const std::vector<Place>& places) {
    wire::StepPlan first = next_plan();
    wire::Admission& admission =
        admit(first, 1, {20, 19, 19, 19, 21, 19, 19, 22, 23, 24, 25, 26}, 12);
    for (const Place& place : places) {
      wire::PictureSpan& span = *admission.add_pictures();
      span.mutable_key()->set_low(place.picture);
      span.set_start(place.start);
      span.set_num_tokens(place.num_tokens);
    }
    return first;
  }
  wire::StepPlan next_plan() {
    wire::StepPlan next = plan();
    next.set_step(pictures_.last_step() + 1);
    return next;
  }
  static void add_first_row(wire::StepPlan& plan, uint32_t count) {
    give_blocks(add_row(plan, 1, 0, count, count == 12), {0, 1, 2, 3}, {0, 1, 2, 3});
  }
  base::Expected<wire::StepResult> execute(wire::StepPlan plan) {
    uint32_t num_rows = 0;
    for (const wire::Row& row : plan.rows()) num_rows += row.count();
    plan.add_rank_rows(3);
    plan.add_rank_rows(num_rows);
    return pictures_.execute(plan);
  }
  std::string error_of(const wire::StepPlan& plan) {
    const auto result = execute(plan);
    return result ? "no error" : result.error().message;
  }
  std::vector<int32_t> visible_ends() const {
    std::vector<int32_t> ends;
    for (const TableForward::Row& row : forward_.rows) ends.push_back(row.visible_end);
    return ends;
  }
  std::vector<float> features() const {
    std::vector<float> values;
    for (const TableForward::Row& row : forward_.rows) values.push_back(row.feature);
    return values;
  }

  CountingJobs jobs_{*ops_};
  StepExecutor pictures_{forward_, *ops_, limits(), 1, &jobs_};
};

TEST_F(PicturesTest, SoftTokensTakeFeaturesAndSeeTheirPicture) {
  wire::StepPlan first = admit_with({{7, 1, 3}, {4, 5, 2}});
  add_job(first, 4, 2);
  add_job(first, 7, 3);
  add_job(first, 9, 8, /*destination=*/0);
  add_first_row(first, 12);
  const auto result = execute(first);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_THAT(features(), ElementsAre(-1, 70, 71, 72, -1, 40, 41, -1, -1, -1, -1, -1));
  EXPECT_THAT(visible_ends(), ElementsAre(0, 3, 3, 3, 4, 6, 6, 7, 8, 9, 10, 11));
  // Everything later is causal.
  wire::StepPlan second = next_plan();
  add_row(second, 1, 12, 1, true);
  ASSERT_TRUE(execute(second));
  EXPECT_THAT(features(), ElementsAre(-1));
  EXPECT_THAT(visible_ends(), ElementsAre(12));
}

TEST_F(PicturesTest, APictureMayComeLaterButBeforeItsRows) {
  wire::StepPlan first = admit_with({{7, 1, 3}, {4, 5, 2}});
  add_job(first, 7, 3);
  add_first_row(first, 5);
  ASSERT_TRUE(execute(first));
  EXPECT_THAT(features(), ElementsAre(-1, 70, 71, 72, -1));
  wire::StepPlan second = next_plan();
  second.add_feature_drops()->set_low(7);
  add_job(second, 4, 2);
  add_row(second, 1, 5, 2, false);
  ASSERT_TRUE(execute(second));
  EXPECT_THAT(features(), ElementsAre(40, 41));
  EXPECT_THAT(visible_ends(), ElementsAre(6, 6));
}

TEST_F(PicturesTest, RequestsShareAPicture) {
  wire::StepPlan first = next_plan();
  for (const uint32_t handle : {0u, 2u}) {
    wire::PictureSpan& span = *admit(first, handle, {19, 19, 20}, 3).add_pictures();
    span.mutable_key()->set_low(3);
    span.set_num_tokens(2);
    give_blocks(add_row(first, handle, 0, 3, true), {handle}, {handle});
  }
  add_job(first, 3, 2);
  ASSERT_TRUE(execute(first));
  EXPECT_THAT(features(), ElementsAre(30, 31, -1, 30, 31, -1));
  EXPECT_THAT(visible_ends(), ElementsAre(1, 1, 2, 1, 1, 2));
}

TEST_F(PicturesTest, ARowThatCutsAPictureIsRefused) {
  for (const uint32_t count : {2u, 3u, 6u}) {
    StepExecutor fresh(forward_, *ops_, limits(), 1, &jobs_);
    wire::StepPlan first = admit_with({{7, 1, 3}, {4, 5, 2}});
    add_job(first, 7, 3);
    add_job(first, 4, 2);
    add_first_row(first, count);
    first.add_rank_rows(3);
    first.add_rank_rows(count);
    const auto result = fresh.execute(first);
    ASSERT_FALSE(result) << count;
    EXPECT_THAT(result.error().message, HasSubstr("cuts the picture from"));
  }
}

TEST_F(PicturesTest, ARowWithoutItsFeaturesIsRefused) {
  wire::StepPlan missing = admit_with({{7, 1, 3}});
  add_first_row(missing, 12);
  EXPECT_THAT(error_of(missing), HasSubstr("needs features of 3 soft tokens at 1, kept are 0"));

  StepExecutor fresh(forward_, *ops_, limits(), 1, &jobs_);
  wire::StepPlan shorter = admit_with({{7, 1, 3}});
  shorter.set_step(1);
  add_job(shorter, 7, 2);
  add_first_row(shorter, 12);
  shorter.add_rank_rows(3);
  shorter.add_rank_rows(12);
  EXPECT_THAT(fresh.execute(shorter).error().message, HasSubstr("kept are 2"));
}

TEST_F(PicturesTest, PicturesLieInThePromptOneAfterTheOther) {
  for (const std::vector<Place>& places : {std::vector<Place>{{7, 11, 2}},
                                           {{7, 1, 0}},
                                           {{7, 4, 2}, {4, 5, 2}},
                                           {{7, 5, 2}, {4, 1, 2}},
                                           {{7, 4294967295u, 4294967295u}}}) {
    StepExecutor fresh(forward_, *ops_, limits(), 1, &jobs_);
    wire::StepPlan first = admit_with(places);
    first.add_rank_rows(3);
    first.add_rank_rows(0);
    const auto result = fresh.execute(first);
    ASSERT_FALSE(result);
    EXPECT_THAT(result.error().message, HasSubstr("picture"));
  }
}

TEST_F(PicturesTest, JobsOfATextOnlyGroupAreRefused) {
  wire::StepPlan first = plan();
  add_job(first, 7, 3);
  const auto result = run(first);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message, HasSubstr("feature job"));
}

TEST_F(PicturesTest, TheStoreHasALimitAndKeepsEachPictureOnce) {
  FeatureStore store(5);
  EXPECT_TRUE(store.put({0, 1}, model::Features(*ops_, 3, 2)));
  EXPECT_FALSE(store.put({0, 1}, model::Features(*ops_, 1, 2)));
  EXPECT_FALSE(store.put({1, 1}, model::Features(*ops_, 3, 2)));
  EXPECT_TRUE(store.put({1, 1}, model::Features(*ops_, 2, 2)));
  EXPECT_EQ(store.num_tokens(), 5);
  EXPECT_TRUE(store.drop({0, 1}));
  EXPECT_FALSE(store.drop({0, 1}));
  EXPECT_EQ(store.find({0, 1}), nullptr);
  EXPECT_EQ(store.find({1, 1})->num_tokens(), 2);
  EXPECT_EQ(store.num_tokens(), 2);
}

}  // namespace
}  // namespace beryl::engine
