#include "worker/service/worker_options.h"

#include <CLI/CLI.hpp>
#include <map>

#include "parallel/wire/limits.h"

namespace beryl::service {
namespace {

constexpr int kUsageExitCode = 2;
constexpr const char* kExamples = R"(Examples:
  One rank on this machine:
    beryl-worker /models/gemma-4-26B-A4B-it --secret-file secret
  Four ranks that share the experts, coordinator elsewhere:
    mpirun -n 4 beryl-worker /models/gemma-4-26B-A4B-it --coordinator head:8101 --secret-file secret
  Any size without weight files:
    mpirun -n 2 beryl-worker CONFIG_DIR --load-format dummy --seed 1
  Two ranks without MPI, as threads of one process:
    beryl-worker MODEL_DIR --ranks-as-threads 2)";

void add_model_options(CLI::App& app, WorkerOptions& options) {
  app.add_option("MODEL_DIR", options.model_dir,
                 "Directory with config.json and the weights (model*.safetensors)")
      ->required()
      ->check(CLI::ExistingDirectory);
  app.add_option("--load-format", options.load_format,
                 "auto: the files of MODEL_DIR; dummy: weights made from --seed")
      ->check(CLI::IsMember({"auto", "dummy"}))
      ->capture_default_str()
      ->group("Model");
  app.add_option("--seed", options.seed, "Seed of dummy weights")
      ->capture_default_str()
      ->group("Model");
  app.add_option("--dummy-post-norm", options.dummy_post_norm,
                 "Dummy weights: how much each block adds to the residual stream")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str()
      ->group("Model");
  app.add_option("--max-model-len", options.max_model_len,
                 "Most positions a request may use, prompt and output [what model and cache allow]")
      ->check(CLI::Range(1U, wire::kMaxModelLen))
      ->group("Model");
}

void add_cluster_options(CLI::App& app, WorkerOptions& options) {
  const char* group = "Cluster";
  app.add_option("--coordinator", options.coordinator, "HOST:PORT of the coordinator's worker port")
      ->capture_default_str()
      ->group(group);
  app.add_option("--group", options.group, "Which copy of the model these ranks are")
      ->check(CLI::Range(0U, wire::kMaxGroups - 1))
      ->capture_default_str()
      ->group(group);
  app.add_option("--launch-id", options.launch_id,
                 "Name of this launch, equal on its ranks [made by rank 0]")
      ->envname("BERYL_LAUNCH_ID")
      ->group(group);
  app.add_option("--secret-file", options.secret_file,
                 "File with the cluster's secret [environment BERYL_CLUSTER_SECRET]")
      ->group(group);
  app.add_option("--connect-timeout", options.connect_timeout_s,
                 "Seconds to try to reach the coordinator")
      ->check(CLI::Range(1U, 86'400U))
      ->capture_default_str()
      ->group(group);
  app.add_option("--collective-timeout", options.collective_timeout_s,
                 "Seconds a rank waits for its peers within a step")
      ->check(CLI::Range(1U, 86'400U))
      ->capture_default_str()
      ->group(group);
}

void add_cache_options(CLI::App& app, WorkerOptions& options) {
  const char* group = "Cache and batch, each per rank";
  app.add_option("--block-size", options.block_size, "Positions in a block of the KV cache")
      ->check(CLI::Range(1U, wire::kMaxBlockSize))
      ->capture_default_str()
      ->group(group);
  app.add_option("--kv-cache-memory", options.kv_cache_memory,
                 "Memory of the KV cache, e.g. 8GB [cpu: at most a quarter of what is available, "
                 "divided by the ranks of this machine; cuda: what weights and work space leave]")
      ->transform(CLI::AsSizeValue(false))
      ->group(group);
  app.add_option("--kv-cache-dtype", options.kv_cache_dtype,
                 "What keys and values are kept as: bf16 with --device cuda, float32 with cpu")
      ->check(CLI::IsMember({"auto", "bf16", "float32"}))
      ->capture_default_str()
      ->group(group);
  app.add_option("--gpu-memory-utilization", options.gpu_memory_utilization,
                 "Part of a GPU's memory that a rank may use")
      ->check(CLI::Range(0.01, 1.0))
      ->capture_default_str()
      ->group(group);
  app.add_option("--max-num-seqs", options.max_num_seqs,
                 "Most requests at a time [64; 256 with --device cuda]")
      ->check(CLI::Range(1U, 65'536U))
      ->group(group);
  app.add_option("--max-num-batched-tokens", options.max_num_batched_tokens,
                 "Most tokens in a step [2048; 8192 with --device cuda]")
      ->check(CLI::Range(1U, wire::kMaxBatchedTokens))
      ->group(group);
}

void add_dry_run_options(CLI::App& app, WorkerOptions& options) {
  CLI::Option* const dry_run =
      app.add_flag("--dry-run", options.dry_run,
                   "Print the memory plan of a rank and what options cost, load nothing")
          ->group("Process");
  app.add_option("--device-memory", options.device_memory,
                 "Dry run: plan for a device of this size, e.g. 80GB [the one that is here]")
      ->transform(CLI::AsSizeValue(false))
      ->needs(dry_run)
      ->group("Process");
}

// Defaults that depend on the device.
void settle_defaults(const CLI::App& app, WorkerOptions& options) {
  if (options.device != "cuda") return;
  if (app.count("--max-num-seqs") == 0) options.max_num_seqs = kCudaMaxNumSeqs;
  if (app.count("--max-num-batched-tokens") == 0) {
    options.max_num_batched_tokens = kCudaMaxNumBatchedTokens;
  }
}

void add_picture_options(CLI::App& app, WorkerOptions& options) {
  app.add_option(
         "--feature-cache-tokens", options.feature_cache_tokens,
         "Soft tokens of pictures whose features a rank keeps; 0: take no pictures. Only of "
         "use to models that have a vision tower")
      ->check(CLI::Range(0U, wire::kMaxFeatureTokens))
      ->capture_default_str()
      ->group("Cache and batch, each per rank");
}

void add_process_options(CLI::App& app, WorkerOptions& options) {
  const char* group = "Process";
  app.add_option("--device", options.device, "What a rank computes on: cpu, or cuda for one GPU")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str()
      ->group(group);
  app.add_flag("--no-graphs", options.without_graphs,
               "CUDA: start each kernel of a step by itself, for comparisons")
      ->group(group);
  app.add_flag("--no-overlap", options.without_overlap,
               "CUDA: start a kernel when the one before has ended, for comparisons")
      ->group(group);
  app.add_option("--kernel-arch", options.kernel_arch,
                 "CUDA: best, the kernels made for the device; sm_80, those that every device runs")
      ->check(CLI::IsMember({"best", "sm_80"}))
      ->capture_default_str()
      ->group(group);
  app.add_option("--threads", options.threads, "Threads of each rank [cores / ranks]")
      ->check(CLI::Range(1, 4096))
      ->group(group);
  app.add_option("--ranks-as-threads", options.ranks_as_threads,
                 "Run this many ranks in one process instead of under mpirun")
      ->check(CLI::Range(1, 256))
      ->group(group);
  static const std::map<std::string, base::LogFormat> kFormats = {{"text", base::LogFormat::kText},
                                                                  {"json", base::LogFormat::kJson}};
  app.add_option("--log-format", options.log_format, "text or json")
      ->transform(CLI::CheckedTransformer(kFormats, CLI::ignore_case))
      ->group(group);
  static const std::map<std::string, base::LogLevel> kLevels = {
      {"debug", base::LogLevel::kDebug},
      {"info", base::LogLevel::kInfo},
      {"warning", base::LogLevel::kWarning},
      {"error", base::LogLevel::kError}};
  app.add_option("--log-level", options.log_level, "debug, info, warning or error")
      ->transform(CLI::CheckedTransformer(kLevels, CLI::ignore_case))
      ->group(group);
}

}  // namespace

ParsedWorkerOptions parse_worker_options(int argc, const char* const* argv) {
  ParsedWorkerOptions parsed;
  CLI::App app("beryl-worker: the ranks that hold a model and execute steps for a coordinator");
  app.footer(kExamples);
  app.set_version_flag("--version", BERYL_VERSION);
  add_model_options(app, parsed.options);
  add_cluster_options(app, parsed.options);
  add_cache_options(app, parsed.options);
  add_picture_options(app, parsed.options);
  add_process_options(app, parsed.options);
  add_dry_run_options(app, parsed.options);
  try {
    app.parse(argc, argv);
    settle_defaults(app, parsed.options);
    parsed.run = true;
  } catch (const CLI::ParseError& error) {
    parsed.exit_code = app.exit(error) == 0 ? 0 : kUsageExitCode;
  }
  return parsed;
}

}  // namespace beryl::service
