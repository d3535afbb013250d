#include "bench/parity_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>

#include "bench/cuda_option.h"
#include "bench/isa_option.h"
#include "bench/model/local_ranks.h"
#include "bench/model/mpi_ranks.h"
#include "bench/parity/parity_run.h"
#include "kernels/cuda/cuda_ops.h"

namespace beryl::bench {
namespace {

constexpr int kMaxRanks = 64;

struct ParityArguments {
  ParityOptions parity;
  std::string directory;
  std::string model_directory;
  std::string device = "cpu";
  kernels::cuda::CudaOpsOptions cuda;
  std::string fault = "none";
  int num_ranks = 1;
  int num_threads = 0;  // of all ranks together
};

// Of the rank that compares; the others report nothing.
std::optional<ParityCounts> run_cases(const ParityArguments& arguments) {
  std::optional<ParityCounts> counts;
  const auto rank_main = [&](comm::Communicator& communicator) {
    const auto report = [](const std::string& line) { fmt::print("{}\n", line); };
    const ParityCounts mine = run_parity(arguments.parity, communicator, report);
    if (communicator.rank() == 0) counts = mine;
  };
  if (is_mpi_job()) {
    run_mpi_rank(rank_main);
  } else {
    run_local_ranks(arguments.num_ranks, rank_main);
  }
  return counts;
}

void run(ParityArguments arguments) {
  ParityOptions& options = arguments.parity;
  if (arguments.device == "cuda") {
    const kernels::cuda::DeviceInfo info = kernels::cuda::query_device(0);
    if (!info.is_usable) throw std::runtime_error("--device cuda: " + info.problem);
    if (arguments.num_ranks > 1) throw std::runtime_error("--device cuda: one rank so far");
    options.make_ops = [cuda = arguments.cuda] { return kernels::cuda::make_cuda_ops(cuda); };
  }
  options.directory = arguments.directory;
  options.model_directory = arguments.model_directory;
  if (!kernels::cpu::is_supported(kernels::cpu::resolve(options.isa))) {
    throw std::runtime_error("--isa: this CPU does not have it");
  }
  options.fault = parse_planted_fault(arguments.fault);
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  const int num_threads = arguments.num_threads > 0 ? arguments.num_threads : cores;
  options.num_threads = std::max(1, num_threads / arguments.num_ranks);
  const std::optional<ParityCounts> counts = run_cases(arguments);
  if (!counts) return;
  fmt::print("{} passed, {} failed, {} skipped\n", counts->passed, counts->failed, counts->skipped);
  if (counts->failed > 0) throw CLI::RuntimeError(1);
}

}  // namespace

void add_parity_command(CLI::App& app) {
  auto arguments = std::make_shared<ParityArguments>();
  CLI::App* command =
      app.add_subcommand("parity", "Compare logits, routing and greedy choices with a reference");
  command->footer(
      "Examples:\n"
      "  beryl-bench parity tests/data/tiny\n"
      "  beryl-bench parity tests/data/narrow --ranks 4 --cases short,window\n"
      "  beryl-bench parity tests/data/demo-model --model deploy/demo-model\n"
      "  mpirun -n 2 beryl-bench parity tests/data/tiny");
  command
      ->add_option("DIR", arguments->directory,
                   "Folder with cases.json, expected.safetensors and the model")
      ->required()
      ->check(CLI::ExistingDirectory);
  command
      ->add_option("--model", arguments->model_directory,
                   "Folder with config.json and weights, where DIR holds neither")
      ->check(CLI::ExistingDirectory);
  command->add_option("--ranks", arguments->num_ranks, "Ranks, each a thread with its experts")
      ->check(CLI::Range(1, kMaxRanks))
      ->capture_default_str();
  command->add_option("--device", arguments->device, "cpu or cuda")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  command->add_option("--cases", arguments->parity.cases, "Only these cases")->delimiter(',');
  command->add_option("--threads", arguments->num_threads, "Of all ranks together; 0 = all cores")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  add_isa_option(*command, arguments->parity.isa);
  add_cuda_options(*command, arguments->cuda);
  command->add_option("--max-chunk", arguments->parity.max_chunk, "Prompt tokens in one step")
      ->check(CLI::Range(1, 8192))
      ->capture_default_str();
  command->add_flag("--verbose", arguments->parity.verbose, "Also the hidden error of each layer");
  command->add_option("--plant-fault", arguments->fault, "Must make the check fail")->group("");
  command->callback([arguments] { run(*arguments); });
}

}  // namespace beryl::bench
