// What the host decides before a launch: needs no GPU.
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/sampling_batch.h"

namespace beryl::kernels::cuda {
namespace {

int tiles_of(const std::vector<int>& groups, int tile_rows) {
  int tiles = 0;
  for (const int rows : groups) tiles += (rows + tile_rows - 1) / tile_rows;
  return tiles;
}

// Random divisions of `total` into at most `num_groups` groups, and the extreme ones.
std::vector<std::vector<int>> divisions(int total, int num_groups, std::mt19937& random) {
  std::vector<std::vector<int>> all;
  std::vector<int> one(static_cast<size_t>(num_groups));
  one[0] = total;
  all.push_back(one);
  std::vector<int> ones(static_cast<size_t>(num_groups));
  for (int i = 0; i < total; ++i) ++ones[static_cast<size_t>(i % num_groups)];
  all.push_back(ones);
  for (int n = 0; n < 20; ++n) {
    std::vector<int> groups(static_cast<size_t>(num_groups));
    for (int i = 0; i < total; ++i) ++groups[random() % groups.size() * (random() % 2)];
    all.push_back(groups);
  }
  return all;
}

TEST(MatmulPlanTest, HasATileForEveryRowHoweverGroupsFall) {
  std::mt19937 random(1);
  for (const int groups : {1, 3, 16, 128}) {
    for (const int rows : {1, 2, 8, 9, 64, 65, 300, 1025, 9000}) {
      MatmulArgs args;
      args.num_rows = rows;
      args.num_groups = groups;
      const MatmulPlan plan = plan_matmul(args, {});
      int most = 0;
      for (const auto& division : divisions(rows, groups, random)) {
        most = std::max(most, tiles_of(division, plan.tile_rows));
      }
      EXPECT_GE(plan.num_row_tiles, most) << rows << " rows in " << groups;
      EXPECT_LE(plan.num_row_tiles, rows);
    }
  }
}

TEST(MatmulPlanTest, DenseRowsAreCoveredExactly) {
  for (const int rows : {1, 8, 9, 17, 32, 33, 64, 65, 128, 129, 8192}) {
    MatmulArgs args;
    args.num_rows = rows;
    const MatmulPlan plan = plan_matmul(args, {});
    EXPECT_GE(plan.num_row_tiles * plan.tile_rows, rows);
    EXPECT_LT((plan.num_row_tiles - 1) * plan.tile_rows, rows);
    EXPECT_EQ(plan.kernel == MatmulPlan::Kernel::kSkinny, rows <= 32);
  }
}

TEST(MatmulPlanTest, RingsFitEveryDevice) {
  for (const DeviceLimits device : {DeviceLimits{132, 232448}, {108, 166912}, {84, 101376}}) {
    for (const int groups : {0, 16, 128}) {
      for (const int rows : {1, 9, 17, 33, 100, 700, 5000}) {
        for (const int cols : {8, 704, 8192, 262144}) {
          MatmulArgs args;
          args.num_rows = rows;
          args.num_groups = groups;
          args.jobs[0].num_cols = cols;
          const MatmulPlan plan = plan_matmul(args, device);
          if (plan.kernel != MatmulPlan::Kernel::kSkinny) continue;
          EXPECT_LE(skinny_shared_bytes(args, plan), device.max_shared_bytes)
              << groups << " groups, " << rows << " rows";
          EXPECT_EQ(plan.num_blocks % device.num_sms, 0);
        }
      }
    }
  }
}

MatmulArgs expert_args(int rows) {
  static const uint16_t weights[64] = {};  // never read
  MatmulArgs args;
  args.k = 2816;
  args.num_rows = rows;
  args.num_groups = 128;
  args.epilogue = Epilogue::kGelu;
  args.jobs[0] = {weights, weights + 32, nullptr, 704};
  return args;
}

constexpr DeviceLimits kWithWgmma = {.has_wgmma = true};

TEST(MatmulPlanTest, WarpgroupsTakeManyRowsOfExperts) {
  using Kernel = MatmulPlan::Kernel;
  EXPECT_EQ(plan_matmul(expert_args(128), kWithWgmma).kernel, Kernel::kSkinny);
  for (const int rows : {64 * 128, 256 * 128, 1000 * 128}) {
    const MatmulPlan plan = plan_matmul(expert_args(rows), kWithWgmma);
    EXPECT_EQ(plan.kernel, Kernel::kWarpgroup);
    EXPECT_GE(plan.tile_rows, std::min(rows / 128, 256));  // weights are read once
  }
}

TEST(MatmulPlanTest, WhatWarpgroupsCannotDoTakesTiles) {
  using Kernel = MatmulPlan::Kernel;
  const auto kernel_with = [](const std::function<void(MatmulArgs&)>& change) {
    MatmulArgs args = expert_args(64 * 128);
    change(args);
    return plan_matmul(args, kWithWgmma).kernel;
  };
  EXPECT_EQ(kernel_with([](MatmulArgs&) {}), Kernel::kWarpgroup);
  EXPECT_EQ(plan_matmul(expert_args(64 * 128), {}).kernel, Kernel::kTile);
  EXPECT_EQ(kernel_with([](MatmulArgs& args) { args.num_groups = 0; }), Kernel::kTile);
  EXPECT_EQ(kernel_with([](MatmulArgs& args) { args.epilogue = Epilogue::kStoreBf16; }),
            Kernel::kTile);
  EXPECT_EQ(kernel_with([](MatmulArgs& args) { std::swap(args.jobs[0].weight, args.jobs[0].up); }),
            Kernel::kTile);
  const auto down_of = [](int num_cols) {
    return [num_cols](MatmulArgs& args) {
      args.epilogue = Epilogue::kStore;
      args.jobs[0].num_cols = num_cols;
    };
  };
  EXPECT_EQ(kernel_with(down_of(2816)), Kernel::kWarpgroup);
  EXPECT_EQ(kernel_with(down_of(2824)), Kernel::kTile);
}

AttentionArgs attention_args(bool is_global, int num_rows, int num_segments, int longest,
                             int max_position) {
  AttentionArgs args;
  args.cache.block_size = 16;
  args.shape = is_global ? AttentionShape{16, 2, 512, 128, 0, 0, nullptr}
                         : AttentionShape{16, 8, 256, 256, 1024, 0, nullptr};
  args.num_rows = num_rows;
  args.num_segments = num_segments;
  args.max_segment_rows = longest;
  args.max_position = max_position;
  return args;
}

TEST(AttentionPlanTest, PassesCoverEverySegmentAndKey) {
  std::mt19937 random(2);
  for (const bool is_global : {false, true}) {
    for (const int segments : {1, 2, 7, 64}) {
      for (const int rows : {64, 100, 1025}) {
        for (const auto& division : divisions(rows, segments, random)) {
          const int longest = *std::max_element(division.begin(), division.end());
          for (const int max_position : {1100, 262143}) {
            const AttentionArgs args =
                attention_args(is_global, rows, segments, longest, max_position);
            const AttentionPlan plan = plan_attention(args, {});
            ASSERT_FALSE(plan.is_generic);
            const int group = args.shape.num_heads / args.shape.num_kv_heads;
            int covered = 0;
            for (int i = 0; i < plan.num_passes; ++i) {
              const AttentionPass& pass = plan.passes[i];
              std::vector<int> mine;
              for (const int n : division) {
                if (n >= pass.min_rows && n <= pass.max_rows) mine.push_back(n);
              }
              for (const int n : mine) covered += n;
              EXPECT_GE(pass.num_tiles, tiles_of(mine, pass.queries / group));
              EXPECT_GE(pass.num_splits, 1);
              EXPECT_LE(pass.num_splits, kMaxSplits);
              if (pass.num_splits > 1) {
                EXPECT_GE(plan.partial_floats,
                          int64_t{pass.num_splits} * rows * 16 * (args.shape.head_dim + 2));
              }
            }
            EXPECT_EQ(covered, rows);
          }
        }
      }
    }
  }
}

TEST(AttentionPlanTest, LongContextsAreDivided) {
  const AttentionPlan plan = plan_attention(attention_args(true, 1, 1, 1, 262143), {});
  ASSERT_EQ(plan.num_passes, 1);
  EXPECT_GT(plan.passes[0].num_splits, 120);  // places of all SMs are 132 for each KV head
  EXPECT_LE(plan.passes[0].num_splits, 132);
  // Sixteen requests: 32 blocks, which 264 places hold eight times and not nine.
  const AttentionPlan sixteen = plan_attention(attention_args(true, 16, 16, 1, 8191), {});
  EXPECT_EQ(sixteen.passes[0].num_splits, 8);
  // 128 blocks that are there anyway take an SM each.
  const AttentionPlan deep = plan_attention(attention_args(true, 64, 64, 1, 8191), {});
  EXPECT_TRUE(deep.passes[0].is_deep);
  EXPECT_EQ(deep.passes[0].num_splits, 1);
  const AttentionPlan batch = plan_attention(attention_args(false, 64, 64, 1, 5000), {});
  EXPECT_EQ(batch.passes[0].num_splits, 1);  // 512 blocks already
}

TEST(AttentionPlanTest, SmallSharedMemoryTakesFewerQueries) {
  const AttentionArgs args = attention_args(true, 500, 1, 500, 499);
  const AttentionPlan hopper = plan_attention(args, {132, 232448});
  EXPECT_EQ(hopper.passes[hopper.num_passes - 1].queries, 64);
  const AttentionPlan ampere = plan_attention(args, {108, 150000});
  EXPECT_EQ(ampere.passes[ampere.num_passes - 1].queries, 32);
  EXPECT_FALSE(hopper.passes[hopper.num_passes - 1].has_wgmma);
  const AttentionPlan wgmma = plan_attention(args, {132, 232448, true});
  EXPECT_TRUE(wgmma.passes[wgmma.num_passes - 1].has_wgmma);
  for (const bool is_global : {false, true}) {
    EXPECT_LE(tile_attention_shared_bytes(is_global, {}), 113 << 10);  // two blocks an SM of sm_90
  }
  EXPECT_TRUE(plan_attention(args, {68, 49152}).is_generic);
}

TEST(AttentionPlanTest, OtherShapesAreGeneric) {
  AttentionArgs args = attention_args(false, 5, 1, 5, 4);
  args.shape.head_dim = args.shape.rotary_dim = 64;
  EXPECT_TRUE(plan_attention(args, {}).is_generic);
}

TEST(SamplingBatchTest, PointersLeadToTheCopies) {
  const std::vector<TokenCount> counts = {{3, 1}, {4, 0}};
  const std::vector<TokenBias> biases = {{5, 1.5f}};
  std::vector<SamplingRow> rows(3);
  rows[0].counts = counts.data();
  rows[0].num_counts = 2;
  rows[2].biases = biases.data();
  rows[2].num_biases = 1;
  rows[2].seed = 99;
  SamplingBatchPacker packer;
  const SamplingBatch batch = {rows.data(), 3};
  std::vector<std::byte> memory(SamplingBatchPacker::num_bytes(batch));
  const std::vector<std::byte>& packed = packer.pack(batch, 10, memory.data());
  ASSERT_EQ(packed.size(), memory.size());
  std::memcpy(memory.data(), packed.data(), packed.size());
  const auto* copies = reinterpret_cast<const SamplingRow*>(memory.data());
  EXPECT_EQ(copies[0].counts[1].token_id, 4);
  EXPECT_EQ(copies[2].biases[0].bias, 1.5f);
  EXPECT_EQ(copies[2].seed, 99U);
  EXPECT_GE(static_cast<const void*>(copies[2].biases), memory.data());
  EXPECT_LT(static_cast<const void*>(copies[2].biases), memory.data() + memory.size());
}

}  // namespace
}  // namespace beryl::kernels::cuda
