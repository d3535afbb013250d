#include "worker/service/cache_sizing.h"

#include <fmt/format.h>

#include <algorithm>

#include "parallel/base/progress.h"

namespace beryl::service {
namespace {

constexpr uint64_t kMaxPoolBlocks = 1U << 30;
// A chunk of this length must fit, however small the cache.
constexpr uint64_t kLeastChunk = 64;

uint64_t ceil_div(uint64_t a, uint64_t b) {
  return (a + b - 1) / b;
}

// Blocks and their bytes, for one configuration.
struct Pools {
  Pools(const model::ModelConfig& config, const CacheRequest& request)
      : block_size(request.block_size),
        window(static_cast<uint64_t>(config.sliding_window)),
        global_bytes(block_bytes(config, request, model::LayerKind::kGlobal)),
        sliding_bytes(block_bytes(config, request, model::LayerKind::kSliding)),
        longest(static_cast<uint64_t>(config.max_position_embeddings)) {
    if (request.max_model_len > 0) longest = std::min<uint64_t>(longest, request.max_model_len);
    chunk = std::min<uint64_t>(request.max_num_batched_tokens, longest);
    num_requests = std::max<uint64_t>(1, request.max_num_seqs);
    must_hold = request.max_model_len > 0 ? longest : std::min<uint64_t>(longest, kLeastModelLen);
  }

  static uint64_t block_bytes(const model::ModelConfig& config, const CacheRequest& request,
                              model::LayerKind kind) {
    return std::max<uint64_t>(
        1, cache::bytes_per_block(config, kind, static_cast<int>(request.block_size),
                                  request.kv_dtype));
  }

  uint64_t blocks(uint64_t length) const { return ceil_div(length, block_size); }
  // Blocks that the window and `extra` new positions can touch.
  uint64_t window_blocks(uint64_t extra) const {
    return ceil_div(window - 1 + extra, block_size) + 1;
  }
  // Of the sliding pool, for one decoding request of that length.
  uint64_t kept_blocks(uint64_t length) const { return std::min(blocks(length), window_blocks(1)); }
  // n requests of which one prefills in the largest chunks.
  uint64_t sliding_blocks(uint64_t n) const {
    return window_blocks(chunk) + (n - 1) * window_blocks(1);
  }
  uint64_t least_sliding() const { return window_blocks(std::min(chunk, kLeastChunk)); }
  // Where not even one request of the balanced length fits with a whole chunk.
  uint64_t scarce_sliding(uint64_t budget) const {
    const uint64_t global = blocks(must_hold) * global_bytes;
    const uint64_t room = (budget - std::min(budget, global)) / sliding_bytes;
    const uint64_t wanted = std::min({sliding_blocks(num_requests), budget / 2 / sliding_bytes});
    return std::max(least_sliding(), std::min(wanted, room));
  }

  uint64_t block_size;
  uint64_t window;
  uint64_t global_bytes;   // of a block over all layers of the kind
  uint64_t sliding_bytes;  // the same
  uint64_t longest;
  uint64_t chunk = 0;
  uint64_t num_requests = 1;
  uint64_t must_hold = 0;  // positions of one request
};

// The largest n that the budget holds, 0 .. num_requests.
uint64_t balanced_requests(const Pools& pools, uint64_t budget) {
  const uint64_t length = std::min<uint64_t>(kBalancedLength, pools.longest);
  const auto fits = [&](uint64_t n) {
    const uint64_t global = std::max(n * pools.blocks(length), pools.blocks(pools.must_hold));
    return pools.sliding_blocks(n) * pools.sliding_bytes + global * pools.global_bytes <= budget;
  };
  uint64_t low = 0;
  uint64_t high = pools.num_requests;
  while (low < high) {
    const uint64_t middle = (low + high + 1) / 2;
    if (fits(middle)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

}  // namespace

uint64_t least_cache_bytes(const model::ModelConfig& config, const CacheRequest& request) {
  const Pools pools(config, request);
  return pools.least_sliding() * pools.sliding_bytes +
         pools.blocks(pools.must_hold) * pools.global_bytes;
}

base::Expected<CachePlan> plan_cache(const model::ModelConfig& config,
                                     const CacheRequest& request) {
  const Pools pools(config, request);
  const uint64_t budget = request.budget_bytes;
  const uint64_t least = least_cache_bytes(config, request);
  if (budget < least) {
    return base::invalid_argument(
        "kv-cache-memory",
        fmt::format("{} of KV cache hold no request of {} tokens, {} are needed: raise "
                    "--kv-cache-memory or lower --max-model-len",
                    base::format_bytes(static_cast<double>(budget)), pools.must_hold,
                    base::format_bytes(static_cast<double>(least))));
  }
  const uint64_t n = balanced_requests(pools, budget);
  const uint64_t sliding =
      std::min(n > 0 ? pools.sliding_blocks(n) : pools.scarce_sliding(budget), kMaxPoolBlocks);
  const uint64_t rest = budget - std::min(budget, sliding * pools.sliding_bytes);
  const uint64_t global =
      std::min({rest / pools.global_bytes, pools.blocks(pools.longest) * pools.num_requests,
                kMaxPoolBlocks});
  CachePlan plan;
  plan.size = {.block_size = static_cast<int>(request.block_size),
               .num_global_blocks = static_cast<int>(global),
               .num_sliding_blocks = static_cast<int>(sliding)};
  plan.max_model_len = static_cast<uint32_t>(std::min(pools.longest, global * request.block_size));
  return plan;
}

PoolBytes request_bytes(const model::ModelConfig& config, const CacheRequest& request,
                        uint64_t length) {
  const Pools pools(config, request);
  return {pools.blocks(length) * pools.global_bytes,
          pools.kept_blocks(length) * pools.sliding_bytes};
}

PoolBytes pool_bytes(const model::ModelConfig& config, const cache::KvCacheSize& size,
                     kernels::DType kv_dtype) {
  const Pools pools(config,
                    {.block_size = static_cast<uint32_t>(size.block_size), .kv_dtype = kv_dtype});
  return {static_cast<uint64_t>(size.num_global_blocks) * pools.global_bytes,
          static_cast<uint64_t>(size.num_sliding_blocks) * pools.sliding_bytes};
}

uint64_t num_requests_that_fit(const model::ModelConfig& config, const CacheRequest& request,
                               const cache::KvCacheSize& size, uint64_t length) {
  const Pools pools(config, request);
  const uint64_t by_global =
      static_cast<uint64_t>(size.num_global_blocks) / std::max<uint64_t>(1, pools.blocks(length));
  const uint64_t kept = std::max<uint64_t>(1, pools.kept_blocks(length));
  const uint64_t first = pools.window_blocks(pools.chunk);
  const auto sliding = static_cast<uint64_t>(size.num_sliding_blocks);
  const uint64_t by_sliding =
      sliding >= first ? 1 + (sliding - first) / kept : std::min<uint64_t>(1, sliding / kept);
  return std::min({by_global, by_sliding, pools.num_requests});
}

}  // namespace beryl::service
