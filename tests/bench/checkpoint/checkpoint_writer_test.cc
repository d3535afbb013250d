#include "bench/checkpoint/checkpoint_writer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <numeric>
#include <string>

#include "worker/weights/checkpoint.h"

namespace beryl::bench {
namespace {

namespace fs = std::filesystem;

const fs::path kNarrow = BERYL_SOURCE_DIR "/tests/data/narrow";

class CheckpointWriterTest : public testing::Test {
 protected:
  void TearDown() override {
    std::error_code ignored;
    fs::remove_all(out_, ignored);
  }
  fs::path out_ =
      fs::temp_directory_path() / ("beryl_checkpoint_writer_" + std::to_string(::getpid()));
};

void expect_equal(const kernels::TensorView& a, const kernels::TensorView& b) {
  ASSERT_EQ(a.num_bytes(), b.num_bytes());
  EXPECT_EQ(std::memcmp(a.data, b.data, a.num_bytes()), 0);
}

void expect_equal(const weights::ModelWeights& a, const weights::ModelWeights& b) {
  expect_equal(a.embed_tokens(), b.embed_tokens());
  expect_equal(a.norm(), b.norm());
  for (size_t i = 0; i < a.layers().size(); ++i) {
    const weights::LayerWeights& x = a.layers()[i];
    const weights::LayerWeights& y = b.layers()[i];
    expect_equal(x.attention.q_proj, y.attention.q_proj);
    expect_equal(x.attention.k_norm, y.attention.k_norm);
    expect_equal(x.o_proj, y.o_proj);
    expect_equal(x.mlp.down_proj, y.mlp.down_proj);
    expect_equal(x.router.per_expert_scale, y.router.per_expert_scale);
    expect_equal(x.experts.gate_up_proj, y.experts.gate_up_proj);
    expect_equal(x.experts.down_proj, y.experts.down_proj);
    expect_equal(x.merge.post_norm, y.merge.post_norm);
    EXPECT_EQ(x.merge.layer_scalar, y.merge.layer_scalar);
  }
  expect_equal(a.vision()->patch_proj, b.vision()->patch_proj);
  expect_equal(a.vision()->std_scale, b.vision()->std_scale);
  expect_equal(a.vision()->layers.back().mlp.down_proj, b.vision()->layers.back().mlp.down_proj);
}

TEST_F(CheckpointWriterTest, FilesHoldTheWeightsOfTheSeedBitForBit) {
  write_checkpoint(kNarrow, out_,
                   {.source = {.seed = 42}, .max_shard_bytes = 15'000'000, .num_threads = 2});
  EXPECT_TRUE(fs::exists(out_ / "model.safetensors.index.json"));
  EXPECT_TRUE(fs::exists(out_ / "config.json"));
  const model::ModelConfig config = model::load_model_config(out_ / "config.json");
  std::vector<int32_t> experts(128);
  std::iota(experts.begin(), experts.end(), 0);
  const weights::LoadOptions options{.local_experts = experts, .num_threads = 2};
  const auto from_files =
      weights::ModelWeights::from_checkpoint(config, weights::Checkpoint::open(out_), options);
  expect_equal(from_files, weights::ModelWeights::from_seed(config, {.seed = 42}, options));
}

TEST_F(CheckpointWriterTest, VisionTensorsAreWrittenToo) {
  write_checkpoint(kNarrow, out_, {.source = {.seed = 1}});
  const weights::Checkpoint checkpoint = weights::Checkpoint::open(out_);
  EXPECT_NE(checkpoint.find("model.embed_vision.embedding_projection.weight").file, nullptr);
  EXPECT_NE(checkpoint.find("model.vision_tower.std_bias").file, nullptr);
}

TEST_F(CheckpointWriterTest, ANewCheckpointReplacesAnOldOne) {
  fs::create_directories(out_);
  std::ofstream(out_ / "model.safetensors.index.json") << "{}";
  write_checkpoint(kNarrow, out_, {.source = {.seed = 1}});
  EXPECT_NO_THROW(weights::Checkpoint::open(out_));
}

TEST(PlanShardsTest, ShardsStayBelowTheLimitAndKeepAlignment) {
  const std::vector<Shard> shards =
      plan_shards({{"scalar", {1}}, {"a", {64}}, {"b", {64}}, {"large", {1024}}, {"c", {32}}}, 300);
  ASSERT_EQ(shards.size(), 3u);
  EXPECT_EQ(shards[0].file, "model-00001-of-00003.safetensors");
  ASSERT_EQ(shards[0].tensors.size(), 3u);
  EXPECT_EQ(shards[0].tensors.back().name, "scalar");
  EXPECT_EQ(shards[1].tensors.front().name, "large");
  for (const Shard& shard : shards) EXPECT_EQ(shard_header(shard).size() % 64, 0u);
}

}  // namespace
}  // namespace beryl::bench
