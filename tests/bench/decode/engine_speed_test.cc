#include "bench/decode/engine_speed.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <memory>

#include "bench/decode/work_count.h"
#include "bench/model/local_ranks.h"
#include "bench/model/model_source.h"
#include "kernels/cpu/cpu_ops.h"

namespace beryl::bench {
namespace {

const std::filesystem::path kModel = std::filesystem::path(BERYL_SOURCE_DIR) / "tests/data/tiny";

class EngineSpeedTest : public testing::Test {
 protected:
  void with_runner(const EngineSize& size, const std::function<void(EngineRunner&)>& use) {
    run_local_ranks(1, [&](comm::Communicator& communicator) {
      EngineRunner runner({config_, weights_, *ops_, communicator, placement_}, size);
      use(runner);
    });
  }

  const model::ModelConfig config_ = model::load_model_config(kModel / "config.json");
  const expert::Placement placement_ = expert::Placement::contiguous(config_.num_experts, 1);
  const std::unique_ptr<kernels::Ops> ops_ = kernels::cpu::make_cpu_ops({});
  const weights::ModelWeights weights_ = load_weights(
      config_, {kModel, {}}, {.ops = ops_.get(), .local_experts = placement_.local_experts(0)});
};

TEST_F(EngineSpeedTest, DecodingAgreesWithPrefillingAndAWrongTokenShows) {
  with_runner(decode_size({.context = 1}, 1, 16), [&](EngineRunner& runner) {
    const VerifyResult result = verify_engine(config_, runner);
    EXPECT_EQ(result.num_tokens, kNumVerifiedTokens);
    EXPECT_LE(result.logprob_difference, 1e-3);
    EXPECT_GT(result.fault_difference, 0.25) << "above the limit of every device";
  });
}

// Contexts longer than the window, in steps smaller than a prompt: blocks that windows have left
// must come back, or the runner runs out of them.
TEST_F(EngineSpeedTest, ReusesSlidingBlocks) {
  const int context = 20 * config_.sliding_window + 80;
  const DecodeShape shape{.batch_size = 3, .context = context, .num_steps = 2};
  const EngineSize size = decode_size(shape, 64, 16);
  const int all_blocks =
      size.max_requests * ((size.max_length + size.block_size - 1) / size.block_size);
  EXPECT_LT(cache_size(config_, size, ops_->kv_dtype()).num_pages, all_blocks);
  with_runner(size, [&](EngineRunner& runner) {
    const DecodeResult result = measure_decode(config_, shape, ops_->kv_dtype(), 1, runner, *ops_);
    EXPECT_GE(result.experts_per_layer, config_.top_k_experts);
    EXPECT_LE(result.experts_per_layer, config_.num_experts);
    EXPECT_LE(result.experts_per_layer, 3.0 * config_.top_k_experts);
    EXPECT_GT(result.median_ms, 0);
    const auto first = static_cast<double>(kv_bytes_read(config_, ops_->kv_dtype(), context));
    EXPECT_GT(result.kv_bytes, 3 * first);
    EXPECT_LT(result.kv_bytes, 3.2 * first);
  });
}

TEST_F(EngineSpeedTest, CountsExpertsOfPrefill) {
  with_runner(prefill_size(100, 64, 16), [&](EngineRunner& runner) {
    const PrefillResult result = measure_prefill(config_, 100, 0, 64, 1, runner, *ops_);
    EXPECT_EQ(result.num_chunks, 2);
    EXPECT_EQ(result.num_repeats, 1);
    EXPECT_LE(result.experts_read, 2.0 * config_.num_hidden_layers * config_.num_experts);
    EXPECT_GE(result.experts_read, 2.0 * config_.num_hidden_layers * config_.top_k_experts);
  });
}

TEST_F(EngineSpeedTest, CountsWork) {
  const auto kv = [&](int position) { return kv_bytes_read(config_, ops_->kv_dtype(), position); };
  size_t one_position = 0;
  for (const model::LayerKind kind : config_.layer_kinds) {
    one_position += cache::layer_block_bytes(config_, kind, 1, ops_->kv_dtype());
  }
  EXPECT_EQ(kv(0), one_position);
  EXPECT_EQ(kv(9), 10 * one_position);
  EXPECT_LT(kv(4 * config_.sliding_window),
            static_cast<size_t>(4 * config_.sliding_window + 1) * one_position);
  double sum = 0;
  for (int position = 0; position < 50; ++position) sum += decode_flops(config_, position);
  const double logits = 2.0 * config_.hidden_size * config_.vocab_size;
  EXPECT_NEAR(prefill_flops(config_, 50), sum - 49 * logits, 1e-6 * sum);
}

}  // namespace
}  // namespace beryl::bench
