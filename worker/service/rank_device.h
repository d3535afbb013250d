// What a rank computes on: the CPU, or one GPU.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kernels/ops.h"
#include "worker/model/model_config.h"
#include "worker/service/worker_options.h"

namespace beryl::service {

// Most tokens of a step on a GPU: rows are a dimension of grids.
constexpr uint32_t kMaxDeviceBatchedTokens = 65'535;

// Throws std::runtime_error that says what was found and what is needed, before anything is loaded.
void check_device(const WorkerOptions& options, int num_ranks);

// Throws kernels::DeviceError.
std::unique_ptr<kernels::Ops> make_rank_ops(const WorkerOptions& options, int num_threads);

// Of the KV cache on this rank's device.
kernels::DType kv_dtype(const WorkerOptions& options);

// Memory for the KV cache where none is asked for: on the CPU a quarter of what is available,
// divided by the ranks on this machine; on a GPU what weights and work space leave.
uint64_t default_cache_budget(const WorkerOptions& options, const model::ModelConfig& config,
                              int num_local_ranks);

// Upper estimate of a rank's device memory besides weights and KV cache.
uint64_t device_workspace_bytes(const model::ModelConfig& config, uint32_t max_rows,
                                uint32_t max_logits_rows);

// "cpu avx2, 2 threads", "cuda NVIDIA H100 80GB HBM3"
std::string describe_device(const WorkerOptions& options, int num_threads);

}  // namespace beryl::service
