// The command line of beryl-worker. Names as in `vllm serve` where the meaning is the same.
#pragma once

#include <cstdint>
#include <string>

#include "parallel/base/log.h"

namespace beryl::service {

// Where none are given, by device. A GPU reads the weights of all experts in a step, whatever its
// size: larger steps and more requests make more of that. A CPU is slower by rows.
constexpr uint32_t kCudaMaxNumSeqs = 256;
constexpr uint32_t kCudaMaxNumBatchedTokens = 8192;

struct WorkerOptions {
  std::string model_dir;
  std::string load_format = "auto";  // auto: files; dummy: weights from `seed`
  uint64_t seed = 0;
  double dummy_post_norm = 0.03;

  std::string device = "cpu";  // cpu, cuda
  // CUDA, for comparisons: steps kernel by kernel, kernels one after the other.
  bool without_graphs = false;
  bool without_overlap = false;
  std::string kernel_arch = "best";  // best, sm_80

  std::string coordinator = "127.0.0.1:8101";
  uint32_t group = 0;
  std::string launch_id;  // empty: rank 0 makes one
  std::string secret_file;
  uint32_t connect_timeout_s = 60;

  double gpu_memory_utilization = 0.95;  // of the device's memory, for this rank
  uint64_t device_memory = 0;            // dry run: assume this much; 0: what is there
  bool dry_run = false;
  std::string kv_cache_dtype = "auto";  // auto, bf16, float32

  uint32_t max_model_len = 0;  // 0: what the model and the cache allow
  uint32_t block_size = 16;
  uint32_t max_num_seqs = 64;              // the command line's default differs on a GPU
  uint32_t max_num_batched_tokens = 2048;  // the largest picture has 1,120 soft tokens
  // Soft tokens whose features a rank keeps; 0: no pictures. Of no use without a vision tower.
  uint32_t feature_cache_tokens = 16'384;
  uint64_t kv_cache_memory = 0;  // bytes per rank; 0: from free memory
  uint32_t collective_timeout_s = 30;

  int threads = 0;           // per rank; 0: cores divided by ranks
  int ranks_as_threads = 0;  // 0: one rank, or the ranks of mpirun
  base::LogFormat log_format = base::LogFormat::kText;
  base::LogLevel log_level = base::LogLevel::kInfo;
};

// What main does after parsing: run, or end with this exit code (help and errors were printed).
struct ParsedWorkerOptions {
  WorkerOptions options;
  bool run = false;
  int exit_code = 0;
};

ParsedWorkerOptions parse_worker_options(int argc, const char* const* argv);

}  // namespace beryl::service
