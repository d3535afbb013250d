// What a rank's memory goes to: against what is really taken, and what is said where it is missing.
#include "worker/service/memory_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>

#include "kernels/cpu/cpu_ops.h"
#include "tests/worker/service/counting_ops.h"
#include "worker/model/vision_tower.h"
#include "worker/model/workspace.h"
#include "worker/service/memory_report.h"
#include "worker/service/rank_device.h"

namespace beryl::service {
namespace {

constexpr uint64_t kGb = 1'000'000'000;

// The sizes of the published model.
model::ModelConfig published_config() {
  model::ModelConfig config =
      model::load_model_config(BERYL_SOURCE_DIR "/tests/data/tiny/config.json");
  config.vocab_size = 262'144;
  config.hidden_size = 2816;
  config.intermediate_size = 2112;
  config.num_hidden_layers = 30;
  config.num_attention_heads = 16;
  config.num_key_value_heads = 8;
  config.head_dim = 256;
  config.num_global_key_value_heads = 2;
  config.global_head_dim = 512;
  config.num_experts = 128;
  config.top_k_experts = 8;
  config.moe_intermediate_size = 704;
  config.sliding_window = 1024;
  config.max_position_embeddings = 262'144;
  config.global_inv_freq.assign(64, 1);
  config.layer_kinds.clear();
  for (int layer = 0; layer < 30; ++layer) {
    config.layer_kinds.push_back(layer % 6 == 5 ? model::LayerKind::kGlobal
                                                : model::LayerKind::kSliding);
  }
  model::VisionConfig& vision = *config.vision;
  vision.hidden_size = 1152;
  vision.intermediate_size = 4304;
  vision.num_hidden_layers = 27;
  vision.num_attention_heads = 16;
  vision.head_dim = 72;
  vision.patch_size = 16;
  return config;
}

WorkerOptions cuda_options() {
  WorkerOptions options;
  options.device = "cuda";
  options.max_num_batched_tokens = kCudaMaxNumBatchedTokens;
  options.max_num_seqs = kCudaMaxNumSeqs;
  return options;
}

RankMemory gpu(uint64_t num_bytes) {
  return {.is_device = true, .name = "a GPU", .total_bytes = num_bytes, .free_bytes = num_bytes};
}

uint64_t kept_bytes(const MemoryPlan& plan, const model::ModelConfig& config) {
  return cache_bytes(config, plan.cache.size, plan.cache_request.kv_dtype);
}

TEST(MemoryPlanTest, ThePublishedModelServesFromOneGpuOf80Gb) {
  const auto config = published_config();
  const MemoryPlan plan = plan_memory(cuda_options(), config, gpu(85'520'000'000), 1);
  EXPECT_EQ(plan.missing_bytes, 0U);
  EXPECT_NEAR(static_cast<double>(plan.parts[0].num_bytes + plan.parts[1].num_bytes), 51.6e9,
              0.2e9);
  EXPECT_LE(plan.fixed_bytes + kept_bytes(plan, config), plan.usable_bytes);
  EXPECT_GT(plan.fixed_bytes + kept_bytes(plan, config), plan.usable_bytes - kGb / 100);
  EXPECT_EQ(plan.cache.max_model_len, 262'144U);
  // 640 numbers a KV head and position on global layers, 2 * 256 on sliding ones, two bytes each.
  const RequestBytes request = request_bytes(config, plan.cache_request, 16'384);
  EXPECT_EQ(request.global, uint64_t{16'384} * 640 * 2 * 5 * 2);
  EXPECT_EQ(request.sliding, uint64_t{1040} * 512 * 8 * 25 * 2);
  // One memory for both kinds of layers: what short requests leave, long ones take.
  const auto fit = [&](uint64_t length) {
    return num_requests_that_fit(config, plan.cache_request, plan.cache.size, length);
  };
  EXPECT_GE(fit(1024), 110U);
  EXPECT_GE(fit(16'384), 55U);
  EXPECT_GE(fit(140'000), 11U);
}

// What comes while serving and what was there before are not taken between plan and warm-up.
TEST(MemoryPlanTest, WhatIsTakenIsHeldAgainstThePlan) {
  const auto config = published_config();
  const RankMemory memory = gpu(85'520'000'000);
  const MemoryPlan plan = plan_memory(cuda_options(), config, memory, 1);
  const uint64_t kept = kept_bytes(plan, config);
  const auto taken = [&](uint64_t num_bytes) {
    return check_memory(plan, kept, memory.free_bytes - num_bytes);
  };
  const uint64_t planned = taken(0).planned;
  EXPECT_LT(planned, plan.fixed_bytes + kept - kGb / 2);
  EXPECT_GT(planned, plan.fixed_bytes + kept - 2 * kGb);
  EXPECT_TRUE(taken(planned).is_within());
  EXPECT_FALSE(taken(planned + 1).is_within());
  EXPECT_EQ(check_memory(plan, kept, memory.free_bytes + 1).taken, 0U);
}

TEST(MemoryPlanTest, FollowsTheOptions) {
  const auto config = published_config();
  WorkerOptions options = cuda_options();
  const RankMemory memory = gpu(85'520'000'000);
  const MemoryPlan plan = plan_memory(options, config, memory, 1);
  options.gpu_memory_utilization = 0.85;
  const MemoryPlan less = plan_memory(options, config, memory, 1);
  EXPECT_NEAR(static_cast<double>(plan.cache_budget - less.cache_budget), 8.552e9, 1e6);
  options = cuda_options();
  options.kv_cache_memory = 10 * kGb;
  EXPECT_EQ(plan_memory(options, config, memory, 1).cache_budget, 10 * kGb);
  options.kv_cache_memory = 40 * kGb;
  EXPECT_GT(plan_memory(options, config, memory, 1).missing_bytes, 10 * kGb);
  options = cuda_options();
  options.feature_cache_tokens = 0;
  EXPECT_GT(plan_memory(options, config, memory, 1).cache_budget, plan.cache_budget + kGb / 2);
  // What others use is not there.
  RankMemory shared = memory;
  shared.free_bytes -= 20 * kGb;
  EXPECT_LT(plan_memory(cuda_options(), config, shared, 1).cache_budget,
            plan.cache_budget - 10 * kGb);
}

TEST(MemoryPlanTest, SaysWhatIsMissingAndWhatWouldGiveItBack) {
  const auto config = published_config();
  WorkerOptions options = cuda_options();
  options.max_model_len = 262'144;
  const MemoryPlan plan = plan_memory(options, config, gpu(60 * kGb), 1);
  ASSERT_GT(plan.missing_bytes, 0U);
  EXPECT_EQ(plan.cache.size.num_pages, 0);
  const std::string text = explain_missing(plan, options, config, 1);
  for (const char* said :
       {" of memory are missing", "weights, text", "--max-num-batched-tokens 2048",
        "--max-model-len 65536", "--max-num-seqs 64", "--kv-cache-memory",
        "--gpu-memory-utilization 1.00", "--feature-cache-tokens 0", ", enough"}) {
    EXPECT_NE(text.find(said), std::string::npos) << said << " is not in:\n" << text;
  }
  // What is offered as enough is enough.
  options.gpu_memory_utilization = 0.97;
  options.max_num_batched_tokens = 2048;
  options.max_model_len = 65'536;
  EXPECT_EQ(plan_memory(options, config, gpu(60 * kGb), 1).missing_bytes, 0U);
}

TEST(MemoryPlanTest, CpuRanksKeepToAQuarterAndCountDummyWeights) {
  const auto config = published_config();
  WorkerOptions options;
  const RankMemory memory = {.name = "cpu", .total_bytes = 80 * kGb, .free_bytes = 80 * kGb};
  const MemoryPlan mapped = plan_memory(options, config, memory, 1);
  EXPECT_EQ(mapped.cache_budget, 20 * kGb);
  EXPECT_LT(mapped.fixed_bytes, 2 * kGb);
  options.load_format = "dummy";
  const MemoryPlan dummy = plan_memory(options, config, memory, 1);
  EXPECT_GT(dummy.fixed_bytes, 51 * kGb);
  EXPECT_EQ(dummy.cache_budget, 20 * kGb);
  const RankMemory small = {.name = "cpu", .total_bytes = 60 * kGb, .free_bytes = 60 * kGb};
  EXPECT_LT(plan_memory(options, config, small, 1).cache_budget, 8 * kGb);
  // Half of the experts each.
  EXPECT_LT(plan_memory(options, config, memory, 2).fixed_bytes, 31 * kGb);
}

// The planned sizes are those of the real objects.
TEST(MemoryPlanTest, ActivationsAndTowerTakeWhatIsPlanned) {
  const auto config = published_config();
  CountingOps ops;
  constexpr model::WorkspaceLimits kLimits = {.max_rows = 512};
  {
    const model::Workspace workspace(config, kLimits, ops);
    EXPECT_EQ(ops.num_bytes(),
              model::Workspace::num_bytes(config, kLimits, ops.activation_dtype()));
  }
  EXPECT_EQ(ops.num_bytes(), 0U);
  const weights::VisionWeights weights;
  const model::VisionTower tower({config, weights, ops});
  const uint64_t planned = model::VisionTower::num_bytes(*config.vision);
  EXPECT_LE(ops.num_bytes(), planned);
  EXPECT_GT(ops.num_bytes(), planned / 2);
}

TEST(MemoryReportTest, ShowsTheCacheInBytesTokensAndRequests) {
  const auto config = published_config();
  const MemoryPlan plan = plan_memory(cuda_options(), config, gpu(85'520'000'000), 1);
  std::string text;
  for (const std::string& line : memory_table(plan, config, plan.cache)) text += line + "\n";
  for (const char* said : {"a GPU", "weights, text", "weights, vision tower", "KV cache",
                           " pages of ", "16 tokens of sliding layers or 256 of global ones",
                           "not used", "requests of 262144 tokens", " of 16384", " of 1024"}) {
    EXPECT_NE(text.find(said), std::string::npos) << said << " is not in:\n" << text;
  }
}

TEST(MemoryReportTest, ADryRunSaysWhatOptionsCostAlsoWhereMemoryIsMissing) {
  const auto config = published_config();
  for (const uint64_t size : {85 * kGb, 40 * kGb}) {
    const WorkerOptions options = cuda_options();
    const MemoryPlan plan = plan_memory(options, config, gpu(size), 1);
    const std::string text = dry_run_report(plan, options, config, 1);
    EXPECT_EQ(text.find("are missing") != std::string::npos, size == 40 * kGb);
    for (const char* said : {"What options cost", "--max-num-batched-tokens", "--max-num-seqs",
                             "--max-model-len", "13.1 MB", "--gpu-memory-utilization"}) {
      EXPECT_NE(text.find(said), std::string::npos) << said << " is not in:\n" << text;
    }
  }
}

}  // namespace
}  // namespace beryl::service
