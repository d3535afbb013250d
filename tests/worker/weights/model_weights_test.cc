#include "worker/weights/model_weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "tests/parallel/expert/scalar_ops.h"
#include "worker/weights/load_error.h"
#include "worker/weights/parallel_for.h"
#include "worker/weights/tensor_list.h"

namespace beryl::weights {
namespace {

const std::string kTiny = BERYL_SOURCE_DIR "/tests/data/tiny";

model::ModelConfig tiny_config() {
  return model::load_model_config(kTiny + "/config.json");
}

std::vector<int32_t> range(int begin, int end) {
  std::vector<int32_t> ids;
  for (int id = begin; id < end; ++id) ids.push_back(id);
  return ids;
}

std::vector<uint16_t> values(const kernels::TensorView& view, int64_t first_row, int64_t num_rows) {
  const int64_t row = view.num_elements() / view.shape[0];
  const uint16_t* begin = view.bf16() + first_row * row;
  return {begin, begin + num_rows * row};
}

ModelWeights load_tiny(const std::vector<int32_t>& experts, int num_threads = 2) {
  return ModelWeights::from_checkpoint(tiny_config(), Checkpoint::open(kTiny),
                                       {.local_experts = experts, .num_threads = num_threads});
}

// Host memory that pretends to be a device's: files come in parts of an odd size.
class PartwiseOps final : public expert::ScalarOps {
 public:
  bool memory_is_host() const override { return false; }
  void upload_from(void* to, size_t num_bytes, const kernels::UploadSource& fill) override {
    for (size_t at = 0; at < num_bytes; at += kPartBytes) {
      fill(at, static_cast<std::byte*>(to) + at, std::min(kPartBytes, num_bytes - at));
    }
  }

 private:
  static constexpr size_t kPartBytes = 1001;
};

ModelWeights load_to_device(PartwiseOps& ops, Checkpoint checkpoint,
                            const std::vector<int32_t>& experts) {
  return ModelWeights::from_checkpoint(tiny_config(), std::move(checkpoint),
                                       {.ops = &ops, .local_experts = experts, .num_threads = 3});
}

TEST(ModelWeightsTest, ADeviceGetsTheBytesOfTheFile) {
  PartwiseOps ops;
  const ModelWeights mapped = load_tiny(range(0, 16));
  const ModelWeights copied = load_to_device(ops, Checkpoint::open(kTiny), {5, 2, 15});
  EXPECT_EQ(values(copied.embed_tokens(), 0, 1024), values(mapped.embed_tokens(), 0, 1024));
  for (size_t layer = 0; layer < 12; ++layer) {
    const auto& all = mapped.layers()[layer];
    const auto& part = copied.layers()[layer];
    EXPECT_EQ(values(part.o_proj, 0, part.o_proj.shape[0]),
              values(all.o_proj, 0, all.o_proj.shape[0]));
    EXPECT_EQ(part.merge.layer_scalar, all.merge.layer_scalar);
    EXPECT_EQ(values(part.experts.down_proj, 1, 1), values(all.experts.down_proj, 2, 1));
    EXPECT_NE(values(part.experts.down_proj, 1, 1), values(all.experts.down_proj, 3, 1));
  }
}

TEST(ModelWeightsTest, AFileThatShrinksWhileItIsLoadedIsAnError) {
  namespace fs = std::filesystem;
  const fs::path copy = fs::path(testing::TempDir()) / "beryl_shrinking";
  fs::remove_all(copy);
  fs::create_directory(copy);
  fs::copy_file(kTiny + "/model.safetensors", copy / "model.safetensors");
  Checkpoint checkpoint = Checkpoint::open(copy);
  fs::resize_file(copy / "model.safetensors", 1 << 20);
  PartwiseOps ops;
  EXPECT_THROW(load_to_device(ops, std::move(checkpoint), range(0, 16)), LoadError);
  fs::remove_all(copy);
}

TEST(ModelWeightsTest, ListsEveryTensorOfTheCheckpoint) {
  EXPECT_EQ(tensor_list(tiny_config()).size(), Checkpoint::open(kTiny).tensors().size());
}

TEST(ModelWeightsTest, ConsecutiveExpertsAreViewedInPlace) {
  const ModelWeights all = load_tiny(range(0, 16));
  const ModelWeights half = load_tiny(range(8, 16));
  const auto& experts = half.layers()[3].experts.gate_up_proj;
  EXPECT_EQ(experts.shape[0], 8);
  EXPECT_EQ(values(experts, 0, 8), values(all.layers()[3].experts.gate_up_proj, 8, 8));
  EXPECT_LT(half.num_bytes(), all.num_bytes());
  EXPECT_EQ(values(half.embed_tokens(), 0, 1024), values(all.embed_tokens(), 0, 1024));
}

TEST(ModelWeightsTest, OtherPlacementsAreCopiedIntoSlotOrder) {
  const ModelWeights all = load_tiny(range(0, 16));
  const ModelWeights some = load_tiny({5, 2, 15});
  for (int slot = 0; slot < 3; ++slot) {
    const int expert = std::vector{5, 2, 15}[static_cast<size_t>(slot)];
    EXPECT_EQ(values(some.layers()[11].experts.down_proj, slot, 1),
              values(all.layers()[11].experts.down_proj, expert, 1));
  }
}

TEST(ModelWeightsTest, ARankMayHoldNoExperts) {
  const ModelWeights none = load_tiny({});
  EXPECT_EQ(none.layers()[0].experts.gate_up_proj.shape[0], 0);
  EXPECT_EQ(none.layers().size(), 12u);
}

TEST(ModelWeightsTest, GlobalLayersHaveNoValueProjection) {
  const ModelWeights weights = load_tiny(range(0, 16));
  EXPECT_FALSE(weights.layers()[0].attention.v_proj.empty());
  EXPECT_TRUE(weights.layers()[5].attention.v_proj.empty());
  EXPECT_GT(weights.layers()[5].merge.layer_scalar, 0.0f);
}

TEST(ModelWeightsTest, DummyExpertsAreSlicesOfTheWholeTensor) {
  const model::ModelConfig config = tiny_config();
  const std::vector<int32_t> experts = {3, 4, 9};
  const ModelWeights weights =
      ModelWeights::from_seed(config, {.seed = 11}, {.local_experts = experts, .num_threads = 3});
  const std::string name = layer_prefix(7) + "experts.down_proj";
  std::vector<uint16_t> whole(16 * 128 * 48);
  fill_dummy(dummy_key(11, name), dummy_rule(name, 48), 0, whole);
  for (size_t slot = 0; slot < experts.size(); ++slot) {
    const auto begin = whole.begin() + experts[slot] * 128 * 48;
    EXPECT_EQ(values(weights.layers()[7].experts.down_proj, static_cast<int64_t>(slot), 1),
              std::vector<uint16_t>(begin, begin + 128 * 48));
  }
}

TEST(ModelWeightsTest, EveryRankHoldsTheVisionTower) {
  const ModelWeights weights = load_tiny({});
  ASSERT_TRUE(weights.vision().has_value());
  const VisionWeights& vision = *weights.vision();
  ASSERT_EQ(vision.layers.size(), 3u);
  const Checkpoint checkpoint = Checkpoint::open(kTiny);
  const FoundTensor stored =
      checkpoint.find(vision_layer_prefix(2) + "self_attn.v_proj.linear.weight");
  const auto& v_proj = vision.layers[2].attention.v_proj;
  ASSERT_EQ(v_proj.num_bytes(), stored.data().size());
  EXPECT_EQ(std::memcmp(v_proj.data, stored.data().data(), v_proj.num_bytes()), 0);
  EXPECT_EQ(vision.position_table.shape[1], 1024);
  EXPECT_EQ(vision.embedding_projection.shape[0], 128);
  EXPECT_EQ(vision.std_bias.shape[0], 72);
}

TEST(ModelWeightsTest, DummyVisionTensorsFollowTheirNames) {
  const ModelWeights weights = ModelWeights::from_seed(tiny_config(), {.seed = 11}, {});
  const std::string name = vision_layer_prefix(1) + "self_attn.q_norm.weight";
  std::vector<uint16_t> expected(36);
  fill_dummy(dummy_key(11, name), dummy_rule(name, 36), 0, expected);
  EXPECT_EQ(values(weights.vision()->layers[1].attention.q_norm, 0, 36), expected);
}

TEST(ModelWeightsTest, ATextOnlyConfigLeavesTheVisionTowerAlone) {
  model::ModelConfig config = tiny_config();
  config.vision.reset();
  const ModelWeights text = ModelWeights::from_checkpoint(config, Checkpoint::open(kTiny), {});
  EXPECT_FALSE(text.vision().has_value());
  EXPECT_LT(text.num_bytes(), load_tiny({}).num_bytes());
}

TEST(ModelWeightsTest, ProgressEndsWithAllBytes) {
  size_t done = 0;
  size_t total = 0;
  const std::vector<int32_t> experts = range(0, 16);
  const ModelWeights weights =
      ModelWeights::from_checkpoint(tiny_config(), Checkpoint::open(kTiny),
                                    {.local_experts = experts,
                                     .num_threads = 2,
                                     .progress = [&](const base::ProgressState& state) {
                                       done = state.done_bytes;
                                       total = state.total_bytes;
                                     }});
  EXPECT_EQ(done, weights.num_bytes());
  EXPECT_EQ(total, weights.num_bytes());
}

TEST(ParallelForTest, ThrowsTheFirstExceptionOn) {
  EXPECT_THROW(parallel_for(4, 100,
                            [](size_t i) {
                              if (i == 13) throw std::runtime_error("13");
                            }),
               std::runtime_error);
}

}  // namespace
}  // namespace beryl::weights
