#include "bench/make_checkpoint_command.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>

#include "bench/checkpoint/checkpoint_writer.h"
#include "worker/weights/parallel_for.h"

namespace beryl::bench {
namespace {

struct MakeCheckpointArguments {
  std::string config_dir;
  std::string out;
  uint64_t max_shard_bytes = 5'000'000'000;
  CheckpointOptions checkpoint;
};

void run(MakeCheckpointArguments arguments) {
  arguments.checkpoint.max_shard_bytes = arguments.max_shard_bytes;
  arguments.checkpoint.progress = base::terminal_progress("written", stderr);
  if (arguments.checkpoint.num_threads == 0) {
    arguments.checkpoint.num_threads =
        std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  write_checkpoint(arguments.config_dir, arguments.out, arguments.checkpoint);
}

}  // namespace

void add_make_checkpoint_command(CLI::App& app) {
  auto arguments = std::make_shared<MakeCheckpointArguments>();
  arguments->checkpoint.num_threads = 0;
  CLI::App* command =
      app.add_subcommand("make-checkpoint", "Write dummy weights as safetensors files");
  command->footer("Example:\n  beryl-bench make-checkpoint tests/data/narrow /tmp/narrow --seed 1");
  command->add_option("CONFIG_DIR", arguments->config_dir, "Folder with config.json")
      ->required()
      ->check(CLI::ExistingDirectory);
  command->add_option("OUT", arguments->out, "Folder to write; made if missing")->required();
  command->add_option("--seed", arguments->checkpoint.source.seed, "Of the weights")->required();
  command
      ->add_option("--post-norm", arguments->checkpoint.source.post_norm,
                   "How much each block adds to the residual stream")
      ->check(CLI::Range(0.0, 10.0))
      ->capture_default_str();
  command->add_option("--max-shard-size", arguments->max_shard_bytes, "Such as 5GB or 500MB")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/true))
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 50))
      ->default_str("5GB");
  command->add_option("--threads", arguments->checkpoint.num_threads, "0 = all cores")
      ->check(CLI::Range(0, weights::kMaxLoadThreads))
      ->capture_default_str();
  command->callback([arguments] { run(*arguments); });
}

}  // namespace beryl::bench
