// The whole decoder with the CUDA kernels on an emulated device, in bfloat16, against recorded
// results: weights, caches, batches and routing as on a GPU, without one. Short cases only.
#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "bench/model/local_ranks.h"
#include "bench/parity/parity_run.h"
#include "kernels/cuda/cuda_ops.h"

namespace beryl::bench {
namespace {

ParityCounts counts_of(const std::string& model, const std::string& one_case, PlantedFault fault) {
  ParityOptions options = {.directory = BERYL_SOURCE_DIR "/tests/data/" + model,
                           .cases = {one_case}};
  options.fault = fault;
  options.verbose = true;
  options.make_ops = [] { return kernels::cuda::make_cuda_ops({.without_cublas = true}); };
  ParityCounts counts;
  run_local_ranks(1, [&](comm::Communicator& communicator) {
    counts =
        run_parity(options, communicator, [](const std::string& line) { std::puts(line.c_str()); });
  });
  return counts;
}

TEST(EmulatedCudaTest, NarrowIsWithinTheYardstick) {
  const ParityCounts counts = counts_of("narrow", "short", PlantedFault::kNone);
  EXPECT_EQ(counts.passed, 2);
  EXPECT_EQ(counts.failed, 0);
}

// A picture of 2,376 patches, through the tower and into the prompt.
TEST(EmulatedCudaTest, PictureIsWithinTheYardstick) {
  const ParityCounts counts = counts_of("narrow", "image", PlantedFault::kNone);
  EXPECT_EQ(counts.passed, 2);
  EXPECT_EQ(counts.failed, 0);
}

TEST(EmulatedCudaTest, TurnedPictureIsNoticed) {
  EXPECT_GE(counts_of("narrow", "image", PlantedFault::kTurnGrids).failed, 1);
}

TEST(EmulatedCudaTest, FaultsAreNoticed) {
  EXPECT_GE(counts_of("narrow", "window", PlantedFault::kSkipLayerScalar).failed, 1);
}

}  // namespace
}  // namespace beryl::bench
