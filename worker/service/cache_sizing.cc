#include "worker/service/cache_sizing.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "parallel/base/progress.h"

namespace beryl::service {
namespace {

constexpr uint64_t kMaxPoolBlocks = 1U << 30;

uint64_t ceil_div(uint64_t a, uint64_t b) {
  return (a + b - 1) / b;
}

// Blocks the window and `extra` new positions can touch.
uint64_t window_blocks(const model::ModelConfig& config, const CacheRequest& request,
                       uint64_t extra) {
  return ceil_div(static_cast<uint64_t>(config.sliding_window) - 1 + extra, request.block_size) + 1;
}

}  // namespace

uint64_t available_cpu_memory() {
  std::ifstream file("/proc/meminfo");
  std::string word;
  while (file >> word) {
    uint64_t kib = 0;
    if (word == "MemAvailable:" && file >> kib) return kib << 10;
  }
  const auto pages = static_cast<uint64_t>(std::max(0L, ::sysconf(_SC_AVPHYS_PAGES)));
  return pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

base::Expected<CachePlan> plan_cache(const model::ModelConfig& config,
                                     const CacheRequest& request) {
  const auto block_size = static_cast<int>(request.block_size);
  const uint64_t global_bytes = std::max<uint64_t>(
      1, cache::bytes_per_block(config, model::LayerKind::kGlobal, block_size, request.kv_dtype));
  const uint64_t sliding_bytes = std::max<uint64_t>(
      1, cache::bytes_per_block(config, model::LayerKind::kSliding, block_size, request.kv_dtype));
  const auto model_len = static_cast<uint64_t>(config.max_position_embeddings);
  const uint64_t wanted_len =
      request.max_model_len > 0 ? std::min<uint64_t>(request.max_model_len, model_len) : model_len;

  // One request that prefills in chunks of the largest step, and the windows of the others.
  const uint64_t chunk = std::min<uint64_t>(request.max_num_batched_tokens, wanted_len);
  const uint64_t least_sliding = window_blocks(config, request, std::min<uint64_t>(chunk, 64));
  const uint64_t most_sliding = window_blocks(config, request, chunk) +
                                window_blocks(config, request, 1) * (request.max_num_seqs - 1);
  const uint64_t half = request.budget_bytes / 2 / sliding_bytes;
  const uint64_t sliding =
      std::min({std::max(least_sliding, std::min(most_sliding, half)), kMaxPoolBlocks});

  const uint64_t rest =
      request.budget_bytes - std::min(request.budget_bytes, sliding * sliding_bytes);
  const uint64_t blocks_per_request = ceil_div(wanted_len, request.block_size);
  const uint64_t global =
      std::min({rest / global_bytes, blocks_per_request * request.max_num_seqs, kMaxPoolBlocks});
  if (global == 0 || (request.max_model_len > 0 && global < blocks_per_request)) {
    return base::invalid_argument(
        "kv-cache-memory",
        fmt::format("{} of KV cache hold no request of {} tokens, {} are needed: raise "
                    "--kv-cache-memory or lower --max-model-len",
                    base::format_bytes(static_cast<double>(request.budget_bytes)), wanted_len,
                    base::format_bytes(static_cast<double>(sliding * sliding_bytes +
                                                           blocks_per_request * global_bytes))));
  }
  CachePlan plan;
  plan.size = {.block_size = block_size,
               .num_global_blocks = static_cast<int>(global),
               .num_sliding_blocks = static_cast<int>(sliding)};
  plan.max_model_len = static_cast<uint32_t>(std::min(wanted_len, global * request.block_size));
  return plan;
}

std::string describe(const model::ModelConfig& config, const cache::KvCacheSize& size,
                     kernels::DType kv_dtype) {
  const auto block_size = static_cast<uint64_t>(size.block_size);
  const auto num_global = static_cast<uint64_t>(size.num_global_blocks);
  const auto num_sliding = static_cast<uint64_t>(size.num_sliding_blocks);
  const uint64_t num_bytes =
      num_global *
          cache::bytes_per_block(config, model::LayerKind::kGlobal, size.block_size, kv_dtype) +
      num_sliding *
          cache::bytes_per_block(config, model::LayerKind::kSliding, size.block_size, kv_dtype);
  const uint64_t window = ceil_div(static_cast<uint64_t>(config.sliding_window), block_size) + 1;
  return fmt::format("KV cache {}: {} tokens on global layers, {} windows on sliding layers",
                     base::format_bytes(static_cast<double>(num_bytes)), num_global * block_size,
                     num_sliding / window);
}

}  // namespace beryl::service
