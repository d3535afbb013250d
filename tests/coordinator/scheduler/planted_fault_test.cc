// The controls of the simulator: each fault planted in the scheduler must be noticed, and for the
// right reason. The same worlds without it pass.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>

#include "tests/coordinator/scheduler/simulator.h"

namespace beryl::scheduler::sim {
namespace {

struct FaultCase {
  const char* name;
  PlantedFault fault;
  const char* symptom;  // part of the failure
};

void PrintTo(const FaultCase& fault_case, std::ostream* out) {
  *out << fault_case.symptom;
}

// A world in which every fault has its chance: pools run out and groups are lost.
Scenario hostile_scenario(uint64_t seed) {
  Scenario scenario;
  scenario.seed = seed;
  scenario.num_requests = 300;
  scenario.max_prompt = 40;
  scenario.max_answer = 40;
  scenario.facts = {.num_ranks = 3,
                    .max_model_len = 80,
                    .sliding_window = 16,
                    .block_size = 4,
                    .num_pages = 45,
                    .global_blocks_per_page = 3,
                    .max_num_seqs = 8,
                    .max_num_batched_tokens = 32,
                    .num_feature_tokens = 60,
                    .max_picture_patches = 200};
  scenario.config.max_queued_requests = 1'000'000;
  scenario.config.max_attempts = 1'000'000;
  scenario.picture_chance = 0.5;
  scenario.num_pictures = 5;
  scenario.longest_span = 24;
  scenario.config.target_itl_us = 1;
  scenario.mean_gap_us = 300;  // more than it can serve at once
  scenario.mean_time_to_loss_us = 20'000;
  return scenario;
}

class PlantedFaultTest : public testing::TestWithParam<FaultCase> {};

TEST_P(PlantedFaultTest, IsNoticed) {
  constexpr int kNumWorlds = 5;
  for (uint64_t seed = 1; seed <= kNumWorlds; ++seed) {
    Scenario scenario = hostile_scenario(seed);
    EXPECT_EQ(Simulator(scenario).run().failure, "");
    scenario.fault = GetParam().fault;
    EXPECT_THAT(Simulator(scenario).run().failure, testing::HasSubstr(GetParam().symptom));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Faults, PlantedFaultTest,
    testing::Values(
        FaultCase{"BlockFreedOneStepEarly", PlantedFault::kFreeEarly, "but its last plan is step"},
        FaultCase{"BlockLeaked", PlantedFault::kLeakBlock, "accounting"},
        FaultCase{"ReplayStartsOver", PlantedFault::kStartOver, "wrong text"},
        FaultCase{"ReplayRepeatsAToken", PlantedFault::kRepeatToken, "wrong text"},
        FaultCase{"HeadOfQueueStarves", PlantedFault::kStarve, "starved"},
        FaultCase{"SpanCut", PlantedFault::kCutSpan, "is cut by rows"},
        FaultCase{"FeatureJobSkipped", PlantedFault::kSkipJob, "runs without its features"},
        FaultCase{"FeaturesDroppedOneStepEarly", PlantedFault::kDropEarly,
                  "runs without its features"}),
    [](const testing::TestParamInfo<FaultCase>& info) { return info.param.name; });

}  // namespace
}  // namespace beryl::scheduler::sim
