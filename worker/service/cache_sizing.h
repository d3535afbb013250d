// How many pages of KV cache a rank gets, from a budget in bytes, and what they hold.
#pragma once

#include <cstdint>

#include "parallel/base/expected.h"
#include "worker/cache/kv_cache.h"
#include "worker/model/model_config.h"

namespace beryl::service {

// The shortest "longest request" a rank starts with, where none was asked for.
constexpr uint32_t kLeastModelLen = 256;

struct CacheRequest {
  uint32_t block_size = 16;
  uint32_t max_num_seqs = 64;
  uint32_t max_num_batched_tokens = 2048;
  uint32_t max_model_len = 0;  // 0: the model's, or what fits
  uint64_t budget_bytes = 0;
  kernels::DType kv_dtype = kernels::DType::kFloat32;
};

struct CachePlan {
  cache::KvCacheSize size;
  uint32_t max_model_len = 0;
};

// All pages that the budget holds, up to what max_num_seqs requests of max_model_len could use,
// one of them prefilling a chunk of max_num_batched_tokens. kInvalidArgument when the budget is
// less than least_cache_bytes().
base::Expected<CachePlan> plan_cache(const model::ModelConfig& config, const CacheRequest& request);

// Holds one request of the max_model_len that was asked for, or of kLeastModelLen.
uint64_t least_cache_bytes(const model::ModelConfig& config, const CacheRequest& request);

// What a decoding request of `length` positions keeps, in whole pages.
struct RequestBytes {
  uint64_t global = 0;
  uint64_t sliding = 0;
};
RequestBytes request_bytes(const model::ModelConfig& config, const CacheRequest& request,
                           uint64_t length);
uint64_t cache_bytes(const model::ModelConfig& config, const cache::KvCacheSize& size,
                     kernels::DType kv_dtype);

// Requests of `length` positions that decode at the same time, while one may prefill a chunk.
uint64_t num_requests_that_fit(const model::ModelConfig& config, const CacheRequest& request,
                               const cache::KvCacheSize& size, uint64_t length);

}  // namespace beryl::service
