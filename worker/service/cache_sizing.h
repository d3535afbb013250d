// How many blocks of both KV pools a rank gets, from a budget in bytes.
#pragma once

#include <cstdint>
#include <string>

#include "parallel/base/expected.h"
#include "worker/cache/kv_cache.h"
#include "worker/model/model_config.h"

namespace beryl::service {

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

// Sliding blocks first: every request needs its window, whatever its length. Global blocks take the
// rest, up to what max_num_seqs requests of max_model_len could use. kInvalidArgument when the
// budget cannot hold one request of the max_model_len that was asked for.
base::Expected<CachePlan> plan_cache(const model::ModelConfig& config, const CacheRequest& request);

// Host memory that is available on this machine now.
uint64_t available_cpu_memory();

// "KV cache 1.2 GB: 40960 tokens on global layers, 64 windows on sliding layers"
std::string describe(const model::ModelConfig& config, const cache::KvCacheSize& size,
                     kernels::DType kv_dtype);

}  // namespace beryl::service
