#include "worker/service/cache_sizing.h"

#include <fmt/format.h>

#include <algorithm>

#include "parallel/base/progress.h"

namespace beryl::service {
namespace {

// Ids of blocks stay far from the end of 32 bits.
constexpr uint64_t kMaxBlocks = 1U << 30;
// A chunk of this length must fit, however small the cache.
constexpr uint64_t kLeastChunk = 64;

uint64_t ceil_div(uint64_t a, uint64_t b) {
  return (a + b - 1) / b;
}

// Pages of requests, for one configuration.
struct Pages {
  Pages(const model::ModelConfig& config, const CacheRequest& request)
      : layout(cache::page_layout(config, static_cast<int>(request.block_size), request.kv_dtype)),
        block_size(request.block_size),
        window(static_cast<uint64_t>(config.sliding_window)),
        longest(static_cast<uint64_t>(config.max_position_embeddings)) {
    if (request.max_model_len > 0) longest = std::min<uint64_t>(longest, request.max_model_len);
    chunk = std::min<uint64_t>(request.max_num_batched_tokens, longest);
    num_requests = std::max<uint64_t>(1, request.max_num_seqs);
    must_hold = request.max_model_len > 0 ? longest : std::min<uint64_t>(longest, kLeastModelLen);
  }

  uint64_t bytes(uint64_t num_pages) const { return num_pages * layout.page_bytes(); }
  uint64_t global(uint64_t length) const {
    return ceil_div(ceil_div(length, block_size), static_cast<uint64_t>(layout.global_blocks));
  }
  // Blocks that the window and `extra` new positions can touch, at the end of `length` positions.
  uint64_t sliding(uint64_t length, uint64_t extra) const {
    return std::min(ceil_div(length, block_size), ceil_div(window - 1 + extra, block_size) + 1);
  }
  uint64_t decoding(uint64_t length) const { return global(length) + sliding(length, 1); }
  // While it prefills a chunk of that size.
  uint64_t prefilling(uint64_t length, uint64_t extra) const {
    return global(length) + sliding(length, extra);
  }
  uint64_t least() const { return prefilling(must_hold, std::min(chunk, kLeastChunk)); }
  uint64_t most() const {
    const uint64_t ids =
        kMaxBlocks / static_cast<uint64_t>(std::max(layout.global_blocks, layout.sliding_step));
    return std::min(ids, prefilling(longest, chunk) + (num_requests - 1) * decoding(longest));
  }
  // The longest request that fits alone.
  uint64_t longest_within(uint64_t num_pages) const {
    uint64_t low = 0;
    uint64_t high = longest;
    while (low < high) {
      const uint64_t middle = (low + high + 1) / 2;
      if (decoding(middle) <= num_pages) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  }

  cache::PageLayout layout;
  uint64_t block_size;
  uint64_t window;
  uint64_t longest;
  uint64_t chunk = 0;
  uint64_t num_requests = 1;
  uint64_t must_hold = 0;  // positions of one request
};

}  // namespace

uint64_t least_cache_bytes(const model::ModelConfig& config, const CacheRequest& request) {
  const Pages pages(config, request);
  return pages.bytes(pages.least());
}

base::Expected<CachePlan> plan_cache(const model::ModelConfig& config,
                                     const CacheRequest& request) {
  const Pages pages(config, request);
  const uint64_t budget = request.budget_bytes;
  const uint64_t least = least_cache_bytes(config, request);
  if (budget < least) {
    return base::invalid_argument(
        "kv-cache-memory",
        fmt::format("{} of KV cache hold no request of {} tokens, {} are needed: raise "
                    "--kv-cache-memory or lower --max-model-len",
                    base::format_bytes(static_cast<double>(budget)), pages.must_hold,
                    base::format_bytes(static_cast<double>(least))));
  }
  const uint64_t num_pages = std::min(budget / pages.bytes(1), pages.most());
  CachePlan plan;
  plan.size = {.block_size = static_cast<int>(request.block_size),
               .num_pages = static_cast<int>(num_pages)};
  plan.max_model_len = static_cast<uint32_t>(pages.longest_within(num_pages));
  return plan;
}

RequestBytes request_bytes(const model::ModelConfig& config, const CacheRequest& request,
                           uint64_t length) {
  const Pages pages(config, request);
  return {pages.bytes(pages.global(length)), pages.bytes(pages.sliding(length, 1))};
}

uint64_t cache_bytes(const model::ModelConfig& config, const cache::KvCacheSize& size,
                     kernels::DType kv_dtype) {
  return static_cast<uint64_t>(size.num_pages) *
         cache::page_layout(config, size.block_size, kv_dtype).page_bytes();
}

uint64_t num_requests_that_fit(const model::ModelConfig& config, const CacheRequest& request,
                               const cache::KvCacheSize& size, uint64_t length) {
  const Pages pages(config, request);
  const auto num_pages = static_cast<uint64_t>(size.num_pages);
  const uint64_t decoding = std::max<uint64_t>(1, pages.decoding(length));
  const uint64_t first = pages.prefilling(length, pages.chunk);
  const uint64_t fit = num_pages >= first ? 1 + (num_pages - first) / decoding
                                          : std::min<uint64_t>(1, num_pages / decoding);
  return std::min(fit, pages.num_requests);
}

}  // namespace beryl::service
