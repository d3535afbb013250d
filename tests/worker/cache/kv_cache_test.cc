#include "worker/cache/kv_cache.h"

#include <gtest/gtest.h>

#include <iterator>
#include <map>
#include <string>

#include "kernels/cpu/cpu_ops.h"

namespace beryl::cache {
namespace {

model::ModelConfig narrow_config() {
  return model::load_model_config(BERYL_SOURCE_DIR "/tests/data/narrow/config.json");
}

constexpr auto kFloat32 = kernels::DType::kFloat32;
constexpr auto kBFloat16 = kernels::DType::kBFloat16;

TEST(KvCacheTest, GlobalLayersKeep640NumbersAPositionAndHead) {
  const model::ModelConfig config = narrow_config();
  const auto bytes = [&](model::LayerKind kind, kernels::DType dtype) {
    return layer_block_bytes(config, kind, 16, dtype);
  };
  EXPECT_EQ(bytes(model::LayerKind::kGlobal, kFloat32), 16u * 2 * 640 * 4);
  EXPECT_EQ(bytes(model::LayerKind::kGlobal, kBFloat16), 16u * 2 * 640 * 2);
  EXPECT_EQ(bytes(model::LayerKind::kSliding, kFloat32), 16u * 8 * 2 * 256 * 4);
}

TEST(KvCacheTest, ThePublishedLayersFillPagesCompletely) {
  // 5 sliding layers and a global one, as in each of the published model's 5 groups.
  const PageLayout layout = page_layout(narrow_config(), 16, kBFloat16);
  EXPECT_EQ(layout.num_groups, 1);
  EXPECT_EQ(layout.sliding_layers, 5);
  EXPECT_EQ(layout.piece_bytes, 5u * 16 * 8 * 2 * 256 * 2);
  EXPECT_EQ(layout.piece_bytes, 16u * 16 * 2 * 640 * 2);
  EXPECT_EQ(layout.global_blocks, 16);
  EXPECT_EQ(layout.sliding_step, 5);
}

TEST(KvCacheTest, LayersHaveTheLayoutOfTheirKind) {
  const model::ModelConfig config = narrow_config();
  const auto ops = kernels::cpu::make_cpu_ops({});
  const KvCache cache(config, {.block_size = 8, .num_pages = 3}, *ops);
  const kernels::TensorView& sliding = cache.layer(0).data;
  ASSERT_EQ(sliding.num_dims, 5);
  EXPECT_EQ(sliding.shape[0], 2 * 5 + 1);
  EXPECT_EQ(sliding.shape[1], 8);
  EXPECT_EQ(sliding.shape[2], 2);
  EXPECT_EQ(sliding.shape[3], 8);
  EXPECT_EQ(sliding.shape[4], 256);
  const kernels::TensorView& global = cache.layer(5).data;
  ASSERT_EQ(global.num_dims, 4);
  EXPECT_EQ(global.shape[0], 3 * 16);
  EXPECT_EQ(global.shape[1], 2);
  EXPECT_EQ(global.shape[3], 640);
  EXPECT_EQ(cache.num_bytes(),
            3u * 5 * layer_block_bytes(config, model::LayerKind::kSliding, 8, kFloat32));
}

// Every byte of a page has one block of one layer as a sliding page, and at most one as a global
// one; no block leaves its page.
TEST(KvCacheTest, BlocksOfAKindLieApartAndWithinTheirPage) {
  const auto ops = kernels::cpu::make_cpu_ops({});
  for (const char* name : {"narrow", "tiny"}) {
    const model::ModelConfig config = model::load_model_config(
        std::string(BERYL_SOURCE_DIR "/tests/data/") + name + "/config.json");
    constexpr int kNumPages = 4;
    const KvCache cache(config, {.block_size = 4, .num_pages = kNumPages}, *ops);
    const PageLayout& layout = cache.layout();
    for (const model::LayerKind kind : {model::LayerKind::kSliding, model::LayerKind::kGlobal}) {
      const bool is_global = kind == model::LayerKind::kGlobal;
      const size_t num_bytes = layer_block_bytes(config, kind, 4, ops->kv_dtype());
      std::map<const std::byte*, int> blocks;  // begin of a block -> its page
      std::map<const std::byte*, int> pages;   // begin of a piece of a page -> page
      for (int i = 0; i < config.num_hidden_layers; ++i) {
        const kernels::TensorView& view = cache.layer(i).data;
        const auto* data = static_cast<const std::byte*>(view.data);
        const bool layer_is_global = view.num_dims == 4;
        if (layer_is_global) {
          for (int page = 0; page < kNumPages; ++page) {
            pages[data + static_cast<size_t>(page) * layout.piece_bytes] = page;
          }
        }
        if (layer_is_global != is_global) continue;
        for (int page = 0; page < kNumPages; ++page) {
          for (int block = 0; block < (is_global ? layout.global_blocks : 1); ++block) {
            const int id =
                is_global ? page * layout.global_blocks + block : page * layout.sliding_step;
            ASSERT_LT(id, view.shape[0]);
            const bool is_new =
                blocks.emplace(data + static_cast<size_t>(id) * num_bytes, page).second;
            EXPECT_TRUE(is_new) << name << " layer " << i << " block " << id;
          }
        }
      }
      const std::byte* end_of_last = nullptr;
      for (const auto& [begin, page] : blocks) {
        EXPECT_GE(begin, end_of_last) << name;
        end_of_last = begin + num_bytes;
        const auto piece = std::prev(pages.upper_bound(begin));
        EXPECT_EQ(piece->second, page) << name;
        EXPECT_LE(end_of_last, piece->first + layout.piece_bytes) << name;
      }
    }
  }
}

}  // namespace
}  // namespace beryl::cache
