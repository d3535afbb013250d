// How many blocks of both KV pools a rank gets, from a budget in bytes.
#pragma once

#include <cstdint>

#include "parallel/base/expected.h"
#include "worker/cache/kv_cache.h"
#include "worker/model/model_config.h"

namespace beryl::service {

// The pools are divided for requests of this length, where memory does not hold max_num_seqs of the
// longest: a long chat turn. Up to the sliding window (1,024 in the published model) a position
// costs both pools, of which the sliding one is 16 times larger there; after it only the global one
// grows. Divided for longer requests, the pool of windows would limit short ones.
constexpr uint32_t kBalancedLength = 4096;

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

// The largest number n of requests of kBalancedLength (or of max_model_len, if that is less) that
// the budget holds decides: the sliding pool gets their windows and one chunk of
// max_num_batched_tokens, the global pool the rest, up to what max_num_seqs requests of
// max_model_len could use. Never less global blocks than one request of the max_model_len that was
// asked for. kInvalidArgument when the budget is less than least_cache_bytes().
base::Expected<CachePlan> plan_cache(const model::ModelConfig& config, const CacheRequest& request);

// Holds one request of the max_model_len that was asked for, or of kLeastModelLen.
uint64_t least_cache_bytes(const model::ModelConfig& config, const CacheRequest& request);

// What a decoding request of `length` positions keeps in both pools.
struct PoolBytes {
  uint64_t global = 0;
  uint64_t sliding = 0;
};
PoolBytes request_bytes(const model::ModelConfig& config, const CacheRequest& request,
                        uint64_t length);
PoolBytes pool_bytes(const model::ModelConfig& config, const cache::KvCacheSize& size,
                     kernels::DType kv_dtype);

// Requests of `length` positions that decode at the same time, while one may prefill a chunk.
uint64_t num_requests_that_fit(const model::ModelConfig& config, const CacheRequest& request,
                               const cache::KvCacheSize& size, uint64_t length);

}  // namespace beryl::service
