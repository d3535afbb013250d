// Random worlds against the real scheduler. A failure prints its seed; BERYL_SIM_SEED=<seed> runs
// that world alone.
#include "tests/coordinator/scheduler/simulator.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

namespace beryl::scheduler::sim {
namespace {

class SimulatorTest : public testing::Test {
 protected:
  // Worlds of seeds first_seed, first_seed + 1, ... until one fails.
  void run_worlds(uint64_t first_seed, uint64_t num_worlds, uint32_t num_requests,
                  uint32_t max_ranks) {
    if (const char* seed = std::getenv("BERYL_SIM_SEED")) {
      first_seed = std::strtoull(seed, nullptr, 10);
      num_worlds = 1;
    }
    for (uint64_t seed = first_seed; seed < first_seed + num_worlds && !HasFailure(); ++seed) {
      const SimReport report = Simulator(draw_scenario(seed, num_requests, max_ranks)).run();
      EXPECT_EQ(report.failure, "");
      totals_.num_requests += report.num_requests;
      totals_.num_steps += report.num_steps;
      totals_.num_padded_steps += report.num_padded_steps;
      totals_.num_preemptions += report.num_preemptions;
      totals_.num_lost_epochs += report.num_lost_epochs;
      totals_.feature_hits += report.feature_hits;
      totals_.feature_misses += report.feature_misses;
      totals_.feature_moves += report.feature_moves;
      for (int reason = 0; reason < 5; ++reason) {
        totals_.num_ended[reason] += report.num_ended[reason];
      }
    }
  }

  void TearDown() override {
    fmt::print(
        "{} requests, {} steps ({} padded), {} preemptions, {} lost epochs; ended: {} stop, {} "
        "length, {} aborted, {} deadline, {} error\n",
        totals_.num_requests, totals_.num_steps, totals_.num_padded_steps, totals_.num_preemptions,
        totals_.num_lost_epochs, totals_.num_ended[0], totals_.num_ended[1], totals_.num_ended[2],
        totals_.num_ended[3], totals_.num_ended[4]);
    fmt::print("features: {} kept already, {} encoded, {} moved\n", totals_.feature_hits,
               totals_.feature_misses, totals_.feature_moves);
  }

  SimReport totals_;
};

TEST_F(SimulatorTest, EveryRequestEndsOnceWithItsText) {
  run_worlds(/*first_seed=*/1, /*num_worlds=*/400, /*num_requests=*/150, /*max_ranks=*/16);
  if (std::getenv("BERYL_SIM_SEED") != nullptr) return;
  // The worlds are rough enough to mean something.
  EXPECT_GE(totals_.num_requests, 50'000U);
  EXPECT_GT(totals_.num_preemptions, 1'000U);
  EXPECT_GT(totals_.num_lost_epochs, 500U);
  EXPECT_GT(totals_.num_padded_steps, 10'000U);
  EXPECT_GT(totals_.feature_hits, 10'000U);
  EXPECT_GT(totals_.feature_misses, 10'000U);
  EXPECT_GT(totals_.feature_moves, 1'000U);
  for (int reason = 0; reason < 4; ++reason) EXPECT_GT(totals_.num_ended[reason], 1'000U);
}

TEST_F(SimulatorTest, SixtyFourRanks) {
  run_worlds(/*first_seed=*/1'000'000, /*num_worlds=*/20, /*num_requests=*/1'000,
             /*max_ranks=*/64);
}

}  // namespace
}  // namespace beryl::scheduler::sim
