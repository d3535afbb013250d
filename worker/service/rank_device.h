// What a rank computes on: the CPU, or one GPU.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kernels/ops.h"
#include "worker/service/memory_plan.h"
#include "worker/service/worker_options.h"

namespace beryl::service {

// Most tokens of a step on a GPU: rows are a dimension of grids.
constexpr uint32_t kMaxDeviceBatchedTokens = 65'535;

// Options that contradict the device, whether it is there or not. Throws std::runtime_error.
void check_device_options(const WorkerOptions& options, int num_ranks);

// The same, and that the device is there and can be used: says what was found, what is needed and
// what to do, before anything is loaded.
void check_device(const WorkerOptions& options, int num_ranks);

// Throws kernels::DeviceError.
std::unique_ptr<kernels::Ops> make_rank_ops(const WorkerOptions& options, int num_threads);

// Of the KV cache on this rank's device.
kernels::DType kv_dtype(const WorkerOptions& options);

// What is there now. On the CPU: available memory, divided by the ranks on this machine. With
// --device-memory: that much, of a device that need not be there.
RankMemory find_rank_memory(const WorkerOptions& options, int num_local_ranks);

// "cpu avx2, 2 threads", "cuda NVIDIA H100 80GB HBM3"
std::string describe_device(const WorkerOptions& options, int num_threads);

}  // namespace beryl::service
