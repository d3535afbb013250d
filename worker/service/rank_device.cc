#include "worker/service/rank_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cuda/cuda_ops.h"
#include "worker/model/workspace.h"
#include "worker/service/cache_sizing.h"
#include "worker/weights/tensor_list.h"

namespace beryl::service {
namespace {

// cuBLASLt and its work space, merged attention splits, pinned buffers, fragments of allocations.
constexpr uint64_t kReservedBytes = 1ULL << 30;

bool is_cuda(const WorkerOptions& options) {
  return options.device == "cuda";
}

uint64_t weight_bytes(const model::ModelConfig& config) {
  uint64_t total = 0;
  for (const weights::TensorSpec& spec : weights::tensor_list(config)) {
    total += spec.num_bytes();
  }
  return total;
}

}  // namespace

void check_device(const WorkerOptions& options, int num_ranks) {
  if (!is_cuda(options)) return;
  const kernels::cuda::DeviceInfo info = kernels::cuda::query_device(0);
  if (!info.is_usable) throw std::runtime_error("--device cuda: " + info.problem);
  if (num_ranks > 1) {
    throw std::runtime_error(
        fmt::format("--device cuda: a group of GPUs has one rank so far, this launch has {}: start "
                    "one worker, or use --device cpu",
                    num_ranks));
  }
  if (options.max_num_batched_tokens > kMaxDeviceBatchedTokens) {
    throw std::runtime_error(fmt::format("--max-num-batched-tokens: at most {} with --device cuda",
                                         kMaxDeviceBatchedTokens));
  }
}

std::unique_ptr<kernels::Ops> make_rank_ops(const WorkerOptions& options, int num_threads) {
  if (is_cuda(options)) {
    return kernels::cuda::make_cuda_ops(
        {.without_graphs = options.without_graphs, .without_overlap = options.without_overlap});
  }
  return kernels::cpu::make_cpu_ops({.num_threads = num_threads});
}

kernels::DType kv_dtype(const WorkerOptions& options) {
  return is_cuda(options) ? kernels::DType::kBFloat16 : kernels::DType::kFloat32;
}

uint64_t device_workspace_bytes(const model::ModelConfig& config, uint32_t max_rows,
                                uint32_t max_logits_rows) {
  const auto hidden = static_cast<uint64_t>(config.hidden_size);
  const auto top_k = static_cast<uint64_t>(config.top_k_experts);
  const auto inner = static_cast<uint64_t>(config.intermediate_size);
  const auto expert_inner = static_cast<uint64_t>(config.moe_intermediate_size);
  uint64_t heads = 0;
  uint64_t projected = 0;
  for (const model::LayerKind kind : {model::LayerKind::kSliding, model::LayerKind::kGlobal}) {
    const auto q = static_cast<uint64_t>(config.num_attention_heads * config.head_size(kind));
    const auto kv = static_cast<uint64_t>(config.num_kv_heads(kind) * config.head_size(kind));
    heads = std::max(heads, q);
    projected = std::max(projected, q + 2 * kv);
  }
  const uint64_t activations = hidden * (3 * 4 + 3 * 2) + heads * 2 * 2;
  const uint64_t experts = top_k * (hidden * 4 + expert_inner * 2 + 64);
  const uint64_t scratch = projected * 4 + inner * 3 * 2 + 4 * 1024;
  return max_rows * (activations + experts + scratch) +
         uint64_t{max_logits_rows} * static_cast<uint64_t>(config.vocab_size) * 4 + kReservedBytes;
}

uint64_t default_cache_budget(const WorkerOptions& options, const model::ModelConfig& config,
                              int num_local_ranks) {
  if (!is_cuda(options)) return available_cpu_memory() / 4 / std::max(1, num_local_ranks);
  const uint64_t free_bytes = kernels::cuda::query_device(0).free_bytes;
  const uint64_t used =
      weight_bytes(config) + device_workspace_bytes(config, options.max_num_batched_tokens,
                                                    model::WorkspaceLimits{}.max_logits_rows);
  return free_bytes - std::min(free_bytes, used);
}

std::string describe_device(const WorkerOptions& options, int num_threads) {
  if (is_cuda(options)) return "cuda " + kernels::cuda::query_device(0).name;
  const auto isa = kernels::cpu::resolve(kernels::cpu::Isa::kBest);
  return fmt::format("cpu {}, {} thread{}", kernels::cpu::isa_name(isa), num_threads,
                     num_threads == 1 ? "" : "s");
}

}  // namespace beryl::service
