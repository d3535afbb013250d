#include "bench/load_command.h"

#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/load/load_generator.h"
#include "bench/process_usage.h"

namespace beryl::bench {
namespace {

struct LoadArguments {
  load::LoadOptions load;
  double warmup_s = 1;
  double duration_s = 10;
  std::vector<int> pids;  // of the server, to state its share of the CPU
  std::string json_path;
};

nlohmann::json to_json(const load::Percentiles& p) {
  return {{"count", p.count()}, {"mean", p.mean()},  {"p50", p.at(0.5)},
          {"p90", p.at(0.9)},   {"p99", p.at(0.99)}, {"max", p.at(1)}};
}

double cpu_seconds_of(const std::vector<int>& pids) {
  double sum = 0;
  for (const int pid : pids) {
    if (const auto usage = process_usage(pid)) sum += usage->cpu_seconds;
  }
  return sum;
}

nlohmann::json report_json(const LoadArguments& arguments, const load::LoadReport& report,
                           double server_cpu_seconds) {
  const double whole_s = arguments.warmup_s + arguments.duration_s;
  return {
      {"concurrency", arguments.load.concurrency},
      {"rate", arguments.load.rate},
      {"stream_share", arguments.load.stream_share},
      {"max_tokens", arguments.load.max_tokens},
      {"seconds", report.seconds},
      {"requests", report.requests},
      {"errors", report.errors},
      {"rejected", report.rejected},
      {"late_starts", report.late_starts},
      {"requests_per_s", static_cast<double>(report.requests) / report.seconds},
      {"events_per_s", static_cast<double>(report.events) / report.seconds},
      {"first_event_ms", to_json(report.first_event_ms)},
      {"total_ms", to_json(report.total_ms)},
      {"client_cores", report.client_cpu_seconds / report.seconds},
      {"server_cores", server_cpu_seconds / whole_s},
  };
}

void print(const nlohmann::json& r) {
  fmt::print("requests        {:>10} in {:.1f} s, {} errors ({} rejected)\n",
             r["requests"].get<uint64_t>(), r["seconds"].get<double>(), r["errors"].get<uint64_t>(),
             r["rejected"].get<uint64_t>());
  fmt::print("requests/s      {:>10.0f}\n", r["requests_per_s"].get<double>());
  fmt::print("SSE events/s    {:>10.0f}\n", r["events_per_s"].get<double>());
  for (const char* name : {"first_event_ms", "total_ms"}) {
    const auto& p = r[name];
    fmt::print("{:<15} {:>10.2f} p50 {:>10.2f} p99 {:>10.2f} max\n", name, p["p50"].get<double>(),
               p["p99"].get<double>(), p["max"].get<double>());
  }
  fmt::print("cores used      {:>10.2f} client {:>7.2f} server\n", r["client_cores"].get<double>(),
             r["server_cores"].get<double>());
}

void run(const LoadArguments& arguments) {
  load::LoadOptions options = arguments.load;
  options.warmup = std::chrono::milliseconds(static_cast<int64_t>(arguments.warmup_s * 1000));
  options.duration = std::chrono::milliseconds(static_cast<int64_t>(arguments.duration_s * 1000));
  if (const base::Status verified = load::verify_endpoint(options); !verified) {
    fmt::print(stderr, "beryl-bench load: {}\n", verified.error().message);
    throw CLI::RuntimeError(EXIT_FAILURE);
  }
  const double cpu_before = cpu_seconds_of(arguments.pids);
  const load::LoadReport report = load::run_load(options);
  const nlohmann::json json =
      report_json(arguments, report, cpu_seconds_of(arguments.pids) - cpu_before);
  print(json);
  if (!arguments.json_path.empty()) std::ofstream(arguments.json_path) << json.dump(2) << '\n';
  if (report.errors > report.rejected) throw CLI::RuntimeError(EXIT_FAILURE);
}

}  // namespace

void add_load_command(CLI::App& app) {
  auto arguments = std::make_shared<LoadArguments>();
  CLI::App* command =
      app.add_subcommand("load", "Closed- or open-loop load on an OpenAI-compatible chat endpoint");
  command->footer(
      "Examples:\n"
      "  beryl-bench load --port 8000 --concurrency 64 --max-tokens 128\n"
      "  beryl-bench load --port 8000 --rate 500 --duration 30 --json result.json");
  load::LoadOptions& load = arguments->load;
  command->add_option("--host", load.host, "Server address")->capture_default_str();
  command->add_option("--port", load.port, "Server port")->capture_default_str();
  command->add_option("--api-key", load.api_key, "Bearer key");
  command->add_option("--model", load.model, "Model name sent")->capture_default_str();
  command->add_option("--prompt", load.prompt, "User message")->capture_default_str();
  command->add_option("--concurrency", load.concurrency, "Connections")
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
  command->add_option("--rate", load.rate, "Requests/s (open loop); 0 = closed loop")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--stream-share", load.stream_share, "Share of streamed requests")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_option("--max-tokens", load.max_tokens, "Tokens an answer")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  command->add_option("--warmup", arguments->warmup_s, "Seconds not counted")
      ->capture_default_str();
  command->add_option("--duration", arguments->duration_s, "Seconds measured")
      ->capture_default_str();
  command->add_option("--server-pid", arguments->pids, "Processes whose CPU time is reported");
  command->add_option("--json", arguments->json_path, "Write the report to this file");
  command->callback([arguments] { run(*arguments); });
}

}  // namespace beryl::bench
