// Feature jobs on ranks that are threads, each with a vision tower of the tiny model.
#include "worker/engine/rank_feature_jobs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/cpu/cpu_ops.h"
#include "parallel/comm/local_communicator.h"
#include "worker/weights/model_weights.h"

namespace beryl::engine {
namespace {

using testing::HasSubstr;

const std::string kTiny = BERYL_SOURCE_DIR "/tests/data/tiny";
constexpr int kHiddenSize = 128;

Picture make_picture(int height, int width, int seed) {
  Picture picture = {height, width, {}};
  for (int i = 0; i < height * width * 3; ++i) {
    picture.pixels.push_back(static_cast<char>((i * 31 + i / 97 * seed) % 251));
  }
  return picture;
}

// Pictures that are there from the start.
class Shelf final : public PictureSource {
 public:
  base::Expected<Picture> take(const PictureKey& key) override {
    const auto it = pictures.find(key);
    if (it == pictures.end()) {
      return base::Error{base::ErrorCode::kDeadlineExceeded, "no such picture", {}, {}};
    }
    Picture picture = std::move(it->second);
    pictures.erase(it);
    return picture;
  }

  std::map<PictureKey, Picture> pictures;
};

// What a rank has, and the status of its jobs.
struct Rank {
  std::unique_ptr<kernels::Ops> ops = kernels::cpu::make_cpu_ops({});
  Shelf shelf;
  FeatureStore store{100};
  base::Status status;

  std::vector<float> features(uint64_t picture) const {
    const model::Features* found = store.find({0, picture});
    if (found == nullptr) return {};
    return {found->view().f32(), found->view().f32() + found->view().num_elements()};
  }
};

class RankFeatureJobsTest : public testing::Test {
 protected:
  static wire::FeatureJob& add_job(wire::StepPlan& plan, uint64_t picture, uint32_t num_tokens,
                                   uint32_t source, uint32_t destination) {
    wire::FeatureJob& job = *plan.add_feature_jobs();
    job.mutable_key()->set_low(picture);
    job.set_num_tokens(num_tokens);
    job.set_source(source);
    job.set_destination(destination);
    job.set_encode(true);
    return job;
  }
  // Runs the jobs on all ranks; one that fails leaves the group, as the end of an epoch does.
  void run(const wire::StepPlan& plan, std::vector<Rank>& ranks) {
    const auto group = comm::make_local_group(static_cast<int>(ranks.size()));
    std::vector<std::thread> threads;
    for (size_t r = 0; r < ranks.size(); ++r) {
      threads.emplace_back([&, r] {
        Rank& rank = ranks[r];
        model::VisionTower tower({config_, *weights_.vision(), *rank.ops}, 200);
        RankFeatureJobs jobs({tower, *rank.ops, *group[r], rank.shelf, kHiddenSize});
        rank.status = jobs.run(plan, rank.store);
        if (!rank.status) group[r]->abort();
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  std::vector<float> expected(const Picture& picture) {
    const auto ops = kernels::cpu::make_cpu_ops({});
    model::VisionTower tower({config_, *weights_.vision(), *ops}, 200);
    const kernels::ImageView view = {reinterpret_cast<const uint8_t*>(picture.pixels.data()),
                                     picture.height, picture.width};
    const auto features = tower.encode({&view, 1});
    return {features->view().f32(), features->view().f32() + features->view().num_elements()};
  }

  model::ModelConfig config_ = model::load_model_config(kTiny + "/config.json");
  weights::ModelWeights weights_ =
      weights::ModelWeights::from_checkpoint(config_, weights::Checkpoint::open(kTiny), {});
  const Picture wide_ = make_picture(48, 144, 3);
  const Picture high_ = make_picture(96, 48, 5);
};

TEST_F(RankFeatureJobsTest, FeaturesComeToTheRankThatKeepsThem) {
  std::vector<Rank> ranks(3);
  ranks[0].shelf.pictures[{0, 1}] = wide_;
  ranks[2].shelf.pictures[{0, 2}] = high_;
  wire::StepPlan plan;
  add_job(plan, 1, 3, 0, 0);                    // at home
  add_job(plan, 2, 2, 2, 1);                    // made on rank 2 for rank 1
  add_job(plan, 1, 3, 0, 1).set_encode(false);  // a copy of what rank 0 keeps
  run(plan, ranks);
  for (const Rank& rank : ranks) ASSERT_TRUE(rank.status) << rank.status.error().message;
  EXPECT_EQ(ranks[0].features(1), expected(wide_));
  EXPECT_EQ(ranks[1].features(1), expected(wide_));
  EXPECT_EQ(ranks[1].features(2), expected(high_));
  EXPECT_EQ(ranks[0].store.num_tokens(), 3);
  EXPECT_EQ(ranks[2].store.num_tokens(), 0);  // it made them for another
  EXPECT_TRUE(ranks[2].shelf.pictures.empty());
}

TEST_F(RankFeatureJobsTest, AJobMaySendWhatAnEarlierOneOfItsStepBrought) {
  std::vector<Rank> ranks(3);
  ranks[0].shelf.pictures[{0, 1}] = wide_;
  wire::StepPlan plan;
  add_job(plan, 1, 3, 0, 1);
  add_job(plan, 1, 3, 1, 2).set_encode(false);
  add_job(plan, 1, 3, 2, 0).set_encode(false);
  run(plan, ranks);
  for (const Rank& rank : ranks) {
    ASSERT_TRUE(rank.status) << rank.status.error().message;
    EXPECT_EQ(rank.features(1), expected(wide_));
  }
}

TEST_F(RankFeatureJobsTest, SeveralPicturesBetweenTheSameRanksStayApart) {
  std::vector<Rank> ranks(2);
  ranks[0].shelf.pictures[{0, 1}] = wide_;
  ranks[0].shelf.pictures[{0, 2}] = high_;
  ranks[1].shelf.pictures[{0, 3}] = high_;
  wire::StepPlan plan;
  add_job(plan, 2, 2, 0, 1);
  add_job(plan, 3, 2, 1, 0);
  add_job(plan, 1, 3, 0, 1);
  add_job(plan, 1, 3, 0, 0);  // encoded once for both
  run(plan, ranks);
  for (const Rank& rank : ranks) ASSERT_TRUE(rank.status) << rank.status.error().message;
  EXPECT_EQ(ranks[1].features(1), expected(wide_));
  EXPECT_EQ(ranks[1].features(2), expected(high_));
  EXPECT_EQ(ranks[0].features(3), expected(high_));
  EXPECT_EQ(ranks[0].features(1), expected(wide_));
  EXPECT_EQ(ranks[0].features(2), std::vector<float>());
}

TEST_F(RankFeatureJobsTest, MoreThanTheStoreHoldsIsRefusedBeforeItTravels) {
  std::vector<Rank> ranks(1);
  ranks[0].shelf.pictures[{0, 1}] = wide_;
  wire::StepPlan plan;
  add_job(plan, 1, 3, 0, 0);
  add_job(plan, 9, 0xFFFFFFFF, 0, 0).set_encode(false);
  run(plan, ranks);
  ASSERT_FALSE(ranks[0].status);
  ranks[0].status = ranks[0].store.check_room(97);
  EXPECT_TRUE(ranks[0].status);
  ranks[0].status = ranks[0].store.check_room(101);
  EXPECT_THAT(ranks[0].status.error().message, HasSubstr("of at most 100"));
}

TEST_F(RankFeatureJobsTest, AFaultEndsTheJobsOfAllRanks) {
  const struct {
    std::function<void(wire::FeatureJob&)> change;
    const char* message;
  } kBad[] = {{[](auto& job) { job.mutable_key()->set_low(9); }, "no such picture"},
              {[](auto& job) { job.set_num_tokens(4); }, "for 4 soft tokens"},
              {[](auto& job) { job.set_encode(false); }, "does not have"},
              {[](auto& job) { job.set_destination(2); }, "to rank 2 of 2"}};
  for (const auto& bad : kBad) {
    std::vector<Rank> ranks(2);
    ranks[0].shelf.pictures[{0, 1}] = wide_;
    wire::StepPlan plan;
    bad.change(add_job(plan, 1, 3, 0, 1));
    run(plan, ranks);
    ASSERT_FALSE(ranks[0].status) << bad.message;
    EXPECT_THAT(ranks[0].status.error().message, HasSubstr(bad.message));
    EXPECT_FALSE(ranks[1].status);
    EXPECT_EQ(ranks[1].store.num_tokens(), 0);
  }
}

TEST_F(RankFeatureJobsTest, PixelsThatDoNotFillThePictureAreRefused) {
  std::vector<Rank> ranks(1);
  ranks[0].shelf.pictures[{0, 1}] = wide_;
  ranks[0].shelf.pictures[{0, 1}].pixels.pop_back();
  wire::StepPlan plan;
  add_job(plan, 1, 3, 0, 0);
  run(plan, ranks);
  ASSERT_FALSE(ranks[0].status);
  EXPECT_THAT(ranks[0].status.error().message, HasSubstr("20735 bytes"));
}

}  // namespace
}  // namespace beryl::engine
