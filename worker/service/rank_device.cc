#include "worker/service/rank_device.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <stdexcept>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cuda/cuda_ops.h"

namespace beryl::service {
namespace {

bool is_cuda(const WorkerOptions& options) {
  return options.device == "cuda";
}

// Host memory that is available on this machine now.
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

}  // namespace

void check_device_options(const WorkerOptions& options, int num_ranks) {
  const char* kept = is_cuda(options) ? "bf16" : "float32";
  if (options.kv_cache_dtype != "auto" && options.kv_cache_dtype != kept) {
    throw std::runtime_error(
        fmt::format("--kv-cache-dtype {}: with --device {} keys and values are kept as {}; "
                    "possible are auto and {}",
                    options.kv_cache_dtype, options.device, kept, kept));
  }
  if (!is_cuda(options)) return;
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

void check_device(const WorkerOptions& options, int num_ranks) {
  check_device_options(options, num_ranks);
  if (!is_cuda(options)) return;
  const kernels::cuda::DeviceInfo info = kernels::cuda::query_device(0);
  if (!info.is_usable) throw std::runtime_error("--device cuda: " + info.problem);
}

std::unique_ptr<kernels::Ops> make_rank_ops(const WorkerOptions& options, int num_threads) {
  if (is_cuda(options)) {
    return kernels::cuda::make_cuda_ops({.kernel_arch = options.kernel_arch == "sm_80"
                                                            ? kernels::cuda::KernelArch::kSm80
                                                            : kernels::cuda::KernelArch::kBest,
                                         .without_graphs = options.without_graphs,
                                         .without_overlap = options.without_overlap});
  }
  return kernels::cpu::make_cpu_ops({.num_threads = num_threads});
}

kernels::DType kv_dtype(const WorkerOptions& options) {
  return is_cuda(options) ? kernels::DType::kBFloat16 : kernels::DType::kFloat32;
}

RankMemory find_rank_memory(const WorkerOptions& options, int num_local_ranks) {
  RankMemory memory;
  memory.is_device = is_cuda(options);
  memory.name = memory.is_device ? "a cuda device (--device-memory)" : "cpu";
  if (options.device_memory > 0) {
    memory.total_bytes = memory.free_bytes = options.device_memory;
    return memory;
  }
  if (!memory.is_device) {
    const auto num_sharing = static_cast<uint64_t>(std::max(1, num_local_ranks));
    memory.total_bytes = memory.free_bytes = available_cpu_memory() / num_sharing;
    return memory;
  }
  const kernels::cuda::DeviceInfo info = kernels::cuda::query_device(0);
  memory.name = "cuda " + info.name;
  memory.total_bytes = info.total_bytes;
  memory.free_bytes = info.free_bytes;
  return memory;
}

std::string describe_device(const WorkerOptions& options, int num_threads) {
  if (is_cuda(options)) return "cuda " + kernels::cuda::query_device(0).name;
  const auto isa = kernels::cpu::resolve(kernels::cpu::Isa::kBest);
  return fmt::format("cpu {}, {} thread{}", kernels::cpu::isa_name(isa), num_threads,
                     num_threads == 1 ? "" : "s");
}

}  // namespace beryl::service
