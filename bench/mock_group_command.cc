#include "bench/mock_group_command.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "parallel/wire/mock_worker.h"

namespace beryl::bench {
namespace {

// Beyond the control tokens and bytes of a small vocabulary: answers are plain text.
constexpr uint32_t kFirstTextToken = 300;

struct MockGroupArguments {
  std::string coordinator = "127.0.0.1:8101";
  std::string secret_file;
  uint32_t num_ranks = 2;
  int64_t step_us = 0;
  uint32_t vocab_size = 1024;
  double seconds = 3600;
};

// The value, or the end of the program with the error's text.
template <typename T>
T value_or_exit(base::Expected<T> value) {
  if (!value) {
    fmt::print(stderr, "beryl-bench mock-group: {}\n", value.error().message);
    throw CLI::RuntimeError(EXIT_FAILURE);
  }
  return *std::move(value);
}

void run(const MockGroupArguments& arguments) {
  const wire::Secret secret = value_or_exit(wire::Secret::load(arguments.secret_file));
  wire::MockWorkerOptions options;
  options.coordinator = value_or_exit(wire::parse_endpoint(arguments.coordinator));
  options.first_token = kFirstTextToken;
  options.step_time = std::chrono::microseconds(arguments.step_us);
  std::vector<std::unique_ptr<wire::MockWorker>> ranks;
  for (uint32_t rank = 0; rank < arguments.num_ranks; ++rank) {
    options.registration = wire::mock_registration(rank, arguments.num_ranks, "mock-group");
    options.registration.mutable_model()->set_vocab_size(arguments.vocab_size);
    ranks.push_back(std::make_unique<wire::MockWorker>(options, secret));
  }
  const auto limit = std::chrono::milliseconds(static_cast<int64_t>(arguments.seconds * 1000));
  const std::string reason = ranks.front()->wait_for_end(limit);
  fmt::print("{} steps; {}\n", ranks.front()->num_steps(), reason.empty() ? "time is up" : reason);
}

}  // namespace

void add_mock_group_command(CLI::App& app) {
  auto arguments = std::make_shared<MockGroupArguments>();
  CLI::App* command = app.add_subcommand(
      "mock-group", "Workers without a model, to measure a coordinator alone (bench/frontend)");
  command->add_option("--coordinator", arguments->coordinator, "Where the coordinator listens")
      ->capture_default_str();
  command->add_option("--secret-file", arguments->secret_file,
                      "File with the cluster's secret [environment BERYL_CLUSTER_SECRET]");
  command->add_option("--ranks", arguments->num_ranks, "Ranks of the group")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  command->add_option("--step-us", arguments->step_us, "Microseconds that a step takes")
      ->check(CLI::Range(0, 10'000'000))
      ->capture_default_str();
  command->add_option("--vocab-size", arguments->vocab_size, "Token ids are below this")
      ->check(CLI::Range(512, 1'000'000))
      ->capture_default_str();
  command->add_option("--seconds", arguments->seconds, "End after this time")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->callback([arguments] { run(*arguments); });
}

}  // namespace beryl::bench
