// Random worlds against the real scheduler. A failure prints the seed; run it alone with
// BERYL_SIM_SEED=<seed>.
#include "tests/coordinator/scheduler/simulator.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

namespace beryl::scheduler::sim {
namespace {

struct Totals {
  uint64_t num_requests = 0;
  uint64_t num_steps = 0;
  uint64_t num_padded_steps = 0;
  uint64_t num_preemptions = 0;
  uint64_t num_lost_epochs = 0;
  uint64_t num_ended[5] = {};
};

void run_seed(uint64_t seed, uint32_t num_requests, uint32_t max_ranks, Totals& totals) {
  const SimReport report = Simulator(draw_scenario(seed, num_requests, max_ranks)).run();
  EXPECT_EQ(report.failure, "");
  totals.num_requests += report.num_requests;
  totals.num_steps += report.num_steps;
  totals.num_padded_steps += report.num_padded_steps;
  totals.num_preemptions += report.num_preemptions;
  totals.num_lost_epochs += report.num_lost_epochs;
  for (int reason = 0; reason < 5; ++reason) totals.num_ended[reason] += report.num_ended[reason];
}

void print(const Totals& totals) {
  printf(
      "%llu requests, %llu steps (%llu padded), %llu preemptions, %llu lost epochs; ended: "
      "%llu stop, %llu length, %llu aborted, %llu deadline, %llu error\n",
      (unsigned long long)totals.num_requests, (unsigned long long)totals.num_steps,
      (unsigned long long)totals.num_padded_steps, (unsigned long long)totals.num_preemptions,
      (unsigned long long)totals.num_lost_epochs, (unsigned long long)totals.num_ended[0],
      (unsigned long long)totals.num_ended[1], (unsigned long long)totals.num_ended[2],
      (unsigned long long)totals.num_ended[3], (unsigned long long)totals.num_ended[4]);
}

TEST(SimulatorTest, EveryRequestEndsOnceWithItsText) {
  Totals totals;
  if (const char* seed = std::getenv("BERYL_SIM_SEED")) {
    run_seed(std::strtoull(seed, nullptr, 10), 200, 16, totals);
    return print(totals);
  }
  for (uint64_t seed = 1; seed <= 200 && !HasFailure(); ++seed) run_seed(seed, 200, 16, totals);
  print(totals);
  // The worlds are rough enough to mean something.
  EXPECT_GE(totals.num_requests, 40'000U);
  EXPECT_GT(totals.num_preemptions, 1'000U);
  EXPECT_GT(totals.num_lost_epochs, 100U);
  EXPECT_GT(totals.num_padded_steps, 1'000U);
}

}  // namespace
}  // namespace beryl::scheduler::sim
