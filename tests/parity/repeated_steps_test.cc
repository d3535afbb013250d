// Steps of the whole decoder that a back end keeps and repeats, against the same steps launched
// kernel by kernel: contexts grow from bucket to bucket, requests come and go, tokens differ. On a
// GPU, and on the emulated device with fewer requests.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "bench/model/local_ranks.h"
#include "bench/model/model_source.h"
#include "bench/model/rank_runner.h"
#include "kernels/cuda/cuda_ops.h"

namespace beryl::bench {
namespace {

#if defined(BERYL_EMULATED_DEVICE)
constexpr bool kIsEmulated = true;
#else
constexpr bool kIsEmulated = false;
#endif

const std::string kNarrow = BERYL_SOURCE_DIR "/tests/data/narrow";

struct Script {
  int num_requests;
  int prompt_tokens;
  int num_steps;
};

// Logits of all steps, and the warnings of the operations.
struct Outcome {
  std::vector<float> logits;
  std::vector<std::string> warnings;
};

int32_t token_at(int request, int position, int vocab_size) {
  return (request * 7919 + position * 104729 + 11) % vocab_size;
}

Outcome run_script(const Script& script, bool with_graphs) {
  Outcome outcome;
  const model::ModelConfig config = model::load_model_config(kNarrow + "/config.json");
  const auto ops = kernels::cuda::make_cuda_ops(
      {.without_cublas = kIsEmulated,
       .without_graphs = !with_graphs,
       .warn = [&](const std::string& line) { outcome.warnings.push_back(line); }});
  run_local_ranks(1, [&](comm::Communicator& communicator) {
    const expert::Placement placement = expert::Placement::contiguous(config.num_experts, 1);
    const weights::ModelWeights weights =
        weights::ModelWeights::from_seed(config, {.seed = 3},
                                         {.ops = ops.get(),
                                          .local_experts = placement.local_experts(0),
                                          .num_threads = 1,
                                          .progress = nullptr});
    const int rows = script.num_requests * script.prompt_tokens;
    RankRunner runner({config, weights, *ops, communicator, placement},
                      {.max_rows = rows,
                       .max_positions = rows + script.num_requests * script.num_steps,
                       .max_requests = script.num_requests,
                       .max_logits_rows = script.num_requests});
    std::vector<int> lengths(static_cast<size_t>(script.num_requests));
    const auto step = [&](int num_requests, int num_tokens) {
      std::vector<Segment> segments;
      for (int request = 0; request < num_requests; ++request) {
        std::vector<int32_t> ids;
        for (int i = 0; i < num_tokens; ++i) {
          ids.push_back(
              token_at(request, lengths[static_cast<size_t>(request)]++, config.vocab_size));
        }
        segments.push_back(sampled_segment(request, std::move(ids)));
      }
      ASSERT_TRUE(runner.run({std::move(segments)}, expert::StepMode::kPadded));
      for (int i = 0; i < num_requests; ++i) {
        outcome.logits.insert(outcome.logits.end(), runner.logits(i),
                              runner.logits(i) + config.vocab_size);
      }
    };
    step(script.num_requests, script.prompt_tokens);
    // The last request pauses every third step: two row counts take turns.
    for (int i = 0; i < script.num_steps; ++i) {
      step(script.num_requests - (i % 3 == 2 ? 1 : 0), 1);
    }
  });
  return outcome;
}

class RepeatedStepsTest : public testing::Test {
 protected:
  void SetUp() override {
    const kernels::cuda::DeviceInfo info = kernels::cuda::query_device(0);
    if (!info.is_usable) GTEST_SKIP() << "no GPU to test on: " << info.problem;
  }

  static void expect_equal(const Script& script) {
    const Outcome kept = run_script(script, true);
    const Outcome plain = run_script(script, false);
    ASSERT_EQ(kept.logits.size(), plain.logits.size());
    EXPECT_TRUE(kept.warnings.empty()) << kept.warnings.front();
    EXPECT_EQ(
        std::memcmp(kept.logits.data(), plain.logits.data(), kept.logits.size() * sizeof(float)),
        0);
    EXPECT_TRUE(
        std::any_of(kept.logits.begin(), kept.logits.end(), [](float v) { return v != 0; }));
  }
};

TEST_F(RepeatedStepsTest, FewRequests) {
  // From the first bucket of positions to the second.
  kIsEmulated ? expect_equal({2, 4, 6}) : expect_equal({3, 240, 40});
}

// More rows than the kernels for few rows take: library calls are captured.
TEST_F(RepeatedStepsTest, ManyRequests) {
  if (kIsEmulated) GTEST_SKIP() << "takes too long without a GPU";
  expect_equal({100, 20, 30});
}

}  // namespace
}  // namespace beryl::bench
