// The same worlds as simulator_test.cc, many more of them and larger.
#include <gtest/gtest.h>

#include "tests/coordinator/scheduler/simulator.h"

namespace beryl::scheduler::sim {
namespace {

void run_worlds(uint64_t first_seed, uint64_t num_worlds, uint32_t num_requests,
                uint32_t max_ranks) {
  for (uint64_t seed = first_seed; seed < first_seed + num_worlds; ++seed) {
    ASSERT_EQ(Simulator(draw_scenario(seed, num_requests, max_ranks)).run().failure, "");
  }
}

TEST(SimulatorSlowTest, ManySmallWorlds) {
  run_worlds(10'000'000, 10'000, 100, 8);
}

TEST(SimulatorSlowTest, MillionRequests) {
  run_worlds(20'000'000, 100, 10'000, 64);
}

}  // namespace
}  // namespace beryl::scheduler::sim
