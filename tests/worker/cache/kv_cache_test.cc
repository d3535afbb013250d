#include "worker/cache/kv_cache.h"

#include <gtest/gtest.h>

#include "kernels/cpu/cpu_ops.h"

namespace beryl::cache {
namespace {

model::ModelConfig narrow_config() {
  return model::load_model_config(BERYL_SOURCE_DIR "/tests/data/narrow/config.json");
}

TEST(KvCacheTest, GlobalLayersKeep640NumbersAPositionAndHead) {
  const model::ModelConfig config = narrow_config();
  // 1 global layer of 2 heads, 5 sliding layers of 8 heads with K and V of 256.
  constexpr auto kFloat32 = kernels::DType::kFloat32;
  constexpr auto kBFloat16 = kernels::DType::kBFloat16;
  EXPECT_EQ(bytes_per_block(config, model::LayerKind::kGlobal, 16, kFloat32), 16u * 2 * 640 * 4);
  EXPECT_EQ(bytes_per_block(config, model::LayerKind::kSliding, 16, kFloat32),
            5u * 16 * 8 * 2 * 256 * 4);
  EXPECT_EQ(bytes_per_block(config, model::LayerKind::kGlobal, 16, kBFloat16), 16u * 2 * 640 * 2);
}

TEST(KvCacheTest, LayersHaveTheLayoutOfTheirKind) {
  const model::ModelConfig config = narrow_config();
  const auto ops = kernels::cpu::make_cpu_ops({});
  const KvCache cache(config, {.block_size = 8, .num_global_blocks = 3, .num_sliding_blocks = 2},
                      *ops);
  const kernels::TensorView& sliding = cache.layer(0).data;
  ASSERT_EQ(sliding.num_dims, 5);
  EXPECT_EQ(sliding.shape[0], 2);
  EXPECT_EQ(sliding.shape[1], 8);
  EXPECT_EQ(sliding.shape[2], 2);
  EXPECT_EQ(sliding.shape[3], 8);
  EXPECT_EQ(sliding.shape[4], 256);
  const kernels::TensorView& global = cache.layer(5).data;
  ASSERT_EQ(global.num_dims, 4);
  EXPECT_EQ(global.shape[0], 3);
  EXPECT_EQ(global.shape[1], 2);
  EXPECT_EQ(global.shape[3], 640);
  constexpr auto kFloat32 = kernels::DType::kFloat32;
  EXPECT_EQ(cache.num_bytes(),
            2 * bytes_per_block(config, model::LayerKind::kSliding, 8, kFloat32) +
                3 * bytes_per_block(config, model::LayerKind::kGlobal, 8, kFloat32));
}

}  // namespace
}  // namespace beryl::cache
