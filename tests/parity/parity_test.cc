// Recorded results of another implementation, and faults that must be noticed.
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "bench/model/local_ranks.h"
#include "bench/parity/parity_run.h"

namespace beryl::bench {
namespace {

ParityOptions options_for(const std::string& model) {
  ParityOptions options;
  options.directory = BERYL_SOURCE_DIR "/tests/data/" + model;
  if (model == "demo-model") options.model_directory = BERYL_SOURCE_DIR "/deploy/demo-model";
  return options;
}

ParityCounts counts_on_ranks(const ParityOptions& options, int num_ranks) {
  ParityCounts counts;
  run_local_ranks(num_ranks, [&](comm::Communicator& communicator) {
    const auto report = [](const std::string& line) { std::puts(line.c_str()); };
    const ParityCounts mine = run_parity(options, communicator, report);
    if (communicator.rank() == 0) counts = mine;
  });
  return counts;
}

class ParityTest : public testing::TestWithParam<int> {};

TEST_P(ParityTest, TinyEqualsTheReference) {
  const ParityCounts counts = counts_on_ranks(options_for("tiny"), GetParam());
  EXPECT_EQ(counts.passed, 6);
  EXPECT_EQ(counts.failed, 0);
  EXPECT_EQ(counts.skipped, 0);
}

TEST_P(ParityTest, NarrowEqualsTheReference) {
  const ParityCounts counts = counts_on_ranks(options_for("narrow"), GetParam());
  EXPECT_EQ(counts.passed, 4);
  EXPECT_EQ(counts.failed, 0);
  EXPECT_EQ(counts.skipped, 0);
}

// Questions of every skill of the bundled model, pictures and frames among them.
TEST_P(ParityTest, TheDemoModelEqualsTheReference) {
  const ParityCounts counts = counts_on_ranks(options_for("demo-model"), GetParam());
  EXPECT_EQ(counts.passed, 29);
  EXPECT_EQ(counts.failed, 0);
  EXPECT_EQ(counts.skipped, 0);
}

INSTANTIATE_TEST_SUITE_P(Ranks, ParityTest, testing::Values(1, 2, 4),
                         [](const auto& info) { return std::to_string(info.param) + "Ranks"; });

TEST(ParityControlTest, FaultsAreNoticed) {
  for (const PlantedFault fault : {PlantedFault::kSkipLayerScalar, PlantedFault::kSkipPostNorm}) {
    for (const char* model : {"tiny", "narrow"}) {
      ParityOptions options = options_for(model);
      options.cases = {"short"};
      options.fault = fault;
      EXPECT_EQ(counts_on_ranks(options, 1).failed, 1) << model;
    }
  }
}

// Chunks end before a picture or after it, and grow where a picture is longer.
TEST(ParityTest, PicturesAreNeverCut) {
  ParityOptions options = options_for("tiny");
  options.cases = {"two_images", "video"};
  options.max_chunk = 7;
  EXPECT_EQ(counts_on_ranks(options, 1).passed, 2);
}

TEST(ParityControlTest, FaultsOfPicturesAreNoticed) {
  for (const PlantedFault fault : {PlantedFault::kTurnGrids, PlantedFault::kCausalSpans}) {
    for (const char* model : {"tiny", "narrow"}) {
      ParityOptions options = options_for(model);
      options.cases = {"short", "image"};
      options.fault = fault;
      const ParityCounts counts = counts_on_ranks(options, 1);
      EXPECT_EQ(counts.failed, 1) << model;
      EXPECT_EQ(counts.passed, 1) << model;
    }
  }
}

TEST(ParityControlTest, AnUnknownCaseIsAnError) {
  ParityOptions options = options_for("tiny");
  options.cases = {"shorter"};
  EXPECT_THROW(counts_on_ranks(options, 1), std::runtime_error);
}

}  // namespace
}  // namespace beryl::bench
