#include "worker/service/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/cuda/cuda_ops.h"
#include "parallel/base/progress.h"
#include "parallel/expert/expert_exchange.h"
#include "parallel/expert/placement.h"
#include "worker/model/vision_tower.h"
#include "worker/model/workspace.h"
#include "worker/service/rank_device.h"
#include "worker/weights/tensor_list.h"

namespace beryl::service {
namespace {

// Of a device, beside what operations ask for.
constexpr uint64_t kContextBytes = 512ULL << 20;   // CUDA context, code of kernels, their stacks
constexpr uint64_t kCublasBytes = 128ULL << 20;    // cuBLASLt and its work space
constexpr uint64_t kFragmentBytes = 384ULL << 20;  // rounding of allocations, merged attention
constexpr uint64_t kStepGraphBytes = 1ULL << 20;   // of one CUDA graph of a step
// A CPU rank's KV cache is at most this part of its share: others want memory too.
constexpr uint64_t kCpuCacheDivisor = 4;

std::string bytes(uint64_t num_bytes) {
  return base::format_bytes(static_cast<double>(num_bytes));
}

struct WeightBytes {
  uint64_t text = 0;
  uint64_t vision = 0;
};

WeightBytes weight_bytes(const model::ModelConfig& config, int num_ranks) {
  const auto num_experts = static_cast<uint64_t>(config.num_experts);
  const uint64_t num_local =
      (num_experts + static_cast<uint64_t>(num_ranks) - 1) / static_cast<uint64_t>(num_ranks);
  WeightBytes sum;
  for (const weights::TensorSpec& spec : weights::tensor_list(config)) {
    const uint64_t whole = spec.num_bytes();
    const uint64_t held = spec.is_per_expert() ? whole / num_experts * num_local : whole;
    (spec.is_vision() ? sum.vision : sum.text) += held;
  }
  return sum;
}

// What operations take for themselves, grown to the largest step or picture: projections, and the
// inner rows of feed-forward networks.
struct Scratch {
  uint64_t projected = 0;
  uint64_t inner = 0;
};

Scratch text_scratch(const model::ModelConfig& config, uint64_t num_rows, bool is_device) {
  uint64_t projected = 0;
  for (const model::LayerKind kind : {model::LayerKind::kSliding, model::LayerKind::kGlobal}) {
    const int heads = config.num_attention_heads + 2 * config.num_kv_heads(kind);
    projected = std::max(projected, static_cast<uint64_t>(heads * config.head_size(kind)));
  }
  const auto inner = static_cast<uint64_t>(config.intermediate_size);
  const auto experts = static_cast<uint64_t>(config.top_k_experts) *
                       static_cast<uint64_t>(config.moe_intermediate_size);
  const uint64_t activation = is_device ? 2 : 4;
  // A device keeps gate and up of dense networks beside the product; buffers are shared in turn.
  const uint64_t inner_rows =
      is_device ? std::max(inner, experts) + 2 * inner : std::max(3 * inner, 2 * experts);
  return {num_rows * projected * sizeof(float), num_rows * inner_rows * activation};
}

Scratch tower_scratch(const model::VisionConfig& vision, bool is_device) {
  const auto patches = static_cast<uint64_t>(model::kMaxImagePatches);
  const auto heads = static_cast<uint64_t>(vision.num_attention_heads * vision.head_dim);
  const auto rows = static_cast<uint64_t>(model::VisionTower::feed_forward_rows(is_device));
  const auto inner = static_cast<uint64_t>(vision.intermediate_size);
  return {3 * patches * heads * sizeof(float), 3 * rows * inner * (is_device ? 2 : 4)};
}

uint64_t minus(uint64_t a, uint64_t b) {
  return a - std::min(a, b);
}

// Beyond what text needs of the same buffers; bytes of the pixels travel too.
uint64_t tower_bytes(const model::VisionConfig& vision, const Scratch& text, bool is_device) {
  const Scratch tower = tower_scratch(vision, is_device);
  const auto patch =
      static_cast<uint64_t>(vision.patch_size) * static_cast<uint64_t>(vision.patch_size) * 3;
  return model::VisionTower::num_bytes(vision) + minus(tower.projected, text.projected) +
         minus(tower.inner, text.inner) + static_cast<uint64_t>(model::kMaxImagePatches) * patch;
}

std::vector<MemoryPart> fixed_parts(const WorkerOptions& options, const model::ModelConfig& config,
                                    bool is_device, int num_ranks) {
  const WeightBytes weights = weight_bytes(config, num_ranks);
  const bool is_mapped = !is_device && options.load_format != "dummy";
  const Taken taken = is_mapped ? Taken::kNever : Taken::kAtStart;
  const auto num_rows = static_cast<int>(options.max_num_batched_tokens);
  const auto activation = is_device ? kernels::DType::kBFloat16 : kernels::DType::kFloat32;
  const expert::ExchangeLimits limits = {
      .hidden_size = config.hidden_size, .top_k = config.top_k_experts, .max_rows = num_rows};
  const auto placement = expert::Placement::contiguous(config.num_experts, num_ranks);
  std::vector<MemoryPart> parts;
  parts.push_back({"weights, text", weights.text, taken});
  if (config.vision) parts.push_back({"weights, vision tower", weights.vision, taken});
  parts.push_back({fmt::format("activations of {} rows, logits", num_rows),
                   model::Workspace::num_bytes(config, {.max_rows = num_rows}, activation)});
  parts.push_back(
      {"expert exchange", expert::ExpertExchange::num_bytes(placement, limits, !is_device)});
  const Scratch scratch = text_scratch(config, static_cast<uint64_t>(num_rows), is_device);
  const uint64_t router =
      static_cast<uint64_t>(num_rows) * static_cast<uint64_t>(config.num_experts) * sizeof(float);
  parts.push_back({"scratch of operations", scratch.projected + scratch.inner + router});
  const uint64_t num_features = num_feature_tokens(options, config);
  if (num_features > 0) {
    parts.push_back(
        {"vision tower at work, largest picture", tower_bytes(*config.vision, scratch, is_device)});
    parts.push_back({fmt::format("kept features of {} soft tokens", num_features),
                     num_features * static_cast<uint64_t>(config.hidden_size) * sizeof(float),
                     Taken::kLater});
  }
  if (is_device) {
    parts.push_back({"CUDA context", kContextBytes, Taken::kBefore});
    parts.push_back({"cuBLAS, rounding of allocations", kCublasBytes + kFragmentBytes});
    if (!options.without_graphs) {
      parts.push_back({fmt::format("CUDA graphs of {} steps", kernels::cuda::kMaxStepGraphs),
                       kernels::cuda::kMaxStepGraphs * kStepGraphBytes, Taken::kLater});
    }
  }
  return parts;
}

// The context is there already when the device is asked: what it took is not free, but ours.
uint64_t usable_bytes(const WorkerOptions& options, const RankMemory& memory) {
  if (!memory.is_device) return memory.free_bytes;
  const auto share = static_cast<uint64_t>(static_cast<double>(memory.total_bytes) *
                                           options.gpu_memory_utilization);
  return std::min(
      share, memory.free_bytes + std::min(kContextBytes, memory.total_bytes - memory.free_bytes));
}

uint64_t cache_budget(const WorkerOptions& options, const MemoryPlan& plan) {
  if (options.kv_cache_memory > 0) return options.kv_cache_memory;
  const uint64_t rest = plan.usable_bytes - std::min(plan.usable_bytes, plan.fixed_bytes);
  return plan.memory.is_device ? rest : std::min(rest, plan.usable_bytes / kCpuCacheDivisor);
}

// What a start needs at least.
uint64_t needed_bytes(const WorkerOptions& options, const MemoryPlan& plan,
                      const model::ModelConfig& config) {
  const uint64_t least = least_cache_bytes(config, plan.cache_request);
  if (options.kv_cache_memory == 0) return plan.fixed_bytes + least;
  // On the CPU a size that was asked for is taken at its word: what is available is a guess.
  if (!plan.memory.is_device) return plan.fixed_bytes;
  return plan.fixed_bytes + std::max(least, options.kv_cache_memory);
}

uint64_t missing_bytes(const WorkerOptions& options, const model::ModelConfig& config,
                       const MemoryPlan& plan) {
  const uint64_t needed = needed_bytes(options, plan, config);
  const uint64_t missing = needed - std::min(needed, plan.usable_bytes);
  const uint64_t least = least_cache_bytes(config, plan.cache_request);
  return std::max(missing, least - std::min(least, plan.cache_budget));
}

}  // namespace

MemoryCheck check_memory(const MemoryPlan& plan, uint64_t cache_bytes, uint64_t free_bytes) {
  MemoryCheck check;
  check.planned = cache_bytes;
  for (const MemoryPart& part : plan.parts) {
    if (part.taken == Taken::kAtStart) check.planned += part.num_bytes;
  }
  check.taken = minus(plan.memory.free_bytes, free_bytes);
  return check;
}

uint32_t num_feature_tokens(const WorkerOptions& options, const model::ModelConfig& config) {
  return config.vision ? options.feature_cache_tokens : 0;
}

MemoryPlan plan_memory(const WorkerOptions& options, const model::ModelConfig& config,
                       const RankMemory& memory, int num_ranks) {
  MemoryPlan plan;
  plan.memory = memory;
  plan.usable_bytes = usable_bytes(options, memory);
  plan.parts = fixed_parts(options, config, memory.is_device, num_ranks);
  for (const MemoryPart& part : plan.parts)
    plan.fixed_bytes += part.is_mapped() ? 0 : part.num_bytes;
  plan.cache_budget = cache_budget(options, plan);
  plan.cache_request = {.block_size = options.block_size,
                        .max_num_seqs = options.max_num_seqs,
                        .max_num_batched_tokens = options.max_num_batched_tokens,
                        .max_model_len = options.max_model_len,
                        .budget_bytes = plan.cache_budget,
                        .kv_dtype = kv_dtype(options)};
  plan.missing_bytes = missing_bytes(options, config, plan);
  if (plan.missing_bytes == 0) plan.cache = *plan_cache(config, plan.cache_request);
  return plan;
}

std::string explain_missing(const MemoryPlan& plan, const WorkerOptions& options,
                            const model::ModelConfig& config, int num_ranks) {
  const uint64_t least = least_cache_bytes(config, plan.cache_request);
  const uint64_t cache = std::max(least, options.kv_cache_memory);
  std::string text = fmt::format(
      "{} of memory are missing: a rank needs {} and a KV cache of at least {}, and may use {} of "
      "the {} of {}",
      bytes(plan.missing_bytes), bytes(plan.fixed_bytes), bytes(cache), bytes(plan.usable_bytes),
      bytes(plan.memory.total_bytes), plan.memory.name);
  for (const MemoryPart& part : plan.parts) {
    if (!part.is_mapped())
      text += fmt::format("\n  {:<40} {:>10}", part.name, bytes(part.num_bytes));
  }
  text += "\nWhat would give some back:";
  const auto offer = [&](const std::string& what, const WorkerOptions& changed) {
    const MemoryPlan other = plan_memory(changed, config, plan.memory, num_ranks);
    const uint64_t back = plan.missing_bytes - std::min(plan.missing_bytes, other.missing_bytes);
    const char* enough = other.missing_bytes == 0 ? ", enough" : "";
    text += fmt::format("\n  {:<40} {:>10}{}", what, bytes(back), enough);
  };
  WorkerOptions changed = options;
  changed.max_num_batched_tokens = std::max(1U, options.max_num_batched_tokens / 4);
  offer(fmt::format("--max-num-batched-tokens {}", changed.max_num_batched_tokens), changed);
  changed = options;
  changed.max_model_len =
      options.max_model_len > 0 ? std::max(1U, options.max_model_len / 4) : kLeastModelLen;
  offer(fmt::format("--max-model-len {}", changed.max_model_len), changed);
  changed = options;
  changed.max_num_seqs = std::max(1U, options.max_num_seqs / 4);
  offer(fmt::format("--max-num-seqs {}", changed.max_num_seqs), changed);
  changed = options;
  changed.kv_cache_memory = least;
  offer(fmt::format("--kv-cache-memory {}", least), changed);
  if (plan.memory.is_device) {
    changed = options;
    changed.gpu_memory_utilization = std::min(1.0, options.gpu_memory_utilization + 0.05);
    offer(fmt::format("--gpu-memory-utilization {:.2f}", changed.gpu_memory_utilization), changed);
  }
  if (num_feature_tokens(options, config) > 0) {
    changed = options;
    changed.feature_cache_tokens = 0;
    offer("--feature-cache-tokens 0 (no pictures)", changed);
  }
  return text;
}

}  // namespace beryl::service
