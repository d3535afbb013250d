#include "bench/serve_command.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <ctime>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/command_line.h"
#include "bench/plot/report_plot.h"
#include "bench/request_progress.h"
#include "bench/serve/prompts.h"
#include "bench/serve/serve_report.h"
#include "bench/serve/serve_run.h"
#include "bench/serve/server_metrics.h"
#include "bench/serve/verify.h"

namespace beryl::bench {
namespace {

using nlohmann::json;

// Prompt tokens of the requests that only verify the server.
constexpr int kMaxVerifiedPrompt = 1024;

struct ServeArguments {
  load::ServeOptions serve;
  load::PromptOptions prompts;
  load::ReportOptions report;
  std::string base_url;
  std::string request_rate = "inf";
  int num_prompts = 100;
  int num_warmups = 0;
  int request_timeout_s = 3600;
  bool may_vary = false;
  bool save_result = false;
  std::string json_path;
  json server;  // what it says of itself
};

void require(const base::Status& status) {
  if (!status) throw std::runtime_error(status.error().message);
}

void settle_options(ServeArguments& arguments) {
  load::ServeOptions& serve = arguments.serve;
  if (!arguments.base_url.empty()) {
    const std::string api_key = serve.endpoint.api_key;
    auto endpoint = load::parse_base_url(arguments.base_url);
    if (!endpoint) throw std::runtime_error("--base-url: " + endpoint.error().message);
    serve.endpoint = *std::move(endpoint);
    serve.endpoint.api_key = api_key;
  }
  if (arguments.request_rate != "inf") {
    size_t used = 0;
    serve.request_rate = std::stod(arguments.request_rate, &used);
    if (used != arguments.request_rate.size() || !(serve.request_rate > 0)) {
      throw std::runtime_error("--request-rate: a number above 0, or inf");
    }
  }
  arguments.prompts.type = serve.type;
  arguments.prompts.seed = serve.seed;
  serve.request_deadline = std::chrono::seconds(arguments.request_timeout_s);
  if (arguments.prompts.dataset == load::Dataset::kImage &&
      serve.type != load::EndpointType::kChat) {
    throw std::runtime_error("--dataset-name image needs --endpoint-type chat");
  }
}

// Model name and limits; errors that would otherwise come once a request.
void ask_server(ServeArguments& arguments) {
  load::ServeOptions& serve = arguments.serve;
  const json models = load::fetch_json(serve.endpoint, "/v1/models");
  if (!models.is_object() || !models.contains("data") || models["data"].empty()) {
    throw std::runtime_error(fmt::format("{}:{}{}/v1/models does not answer with models",
                                         serve.endpoint.host, serve.endpoint.port,
                                         serve.endpoint.path));
  }
  const json& first = models["data"][0];
  if (serve.model.empty()) serve.model = first.value("id", "");
  const auto max_model_len = first.value("max_model_len", int64_t{0});
  const int64_t length =
      (arguments.prompts.dataset == load::Dataset::kFixed ? 0 : arguments.prompts.num_tokens) +
      int64_t{serve.output_tokens};
  if (max_model_len > 0 && length > max_model_len) {
    throw std::runtime_error(fmt::format(
        "--random-input-len and --random-output-len are {} tokens together, the server takes {}",
        length, max_model_len));
  }
  const json version = load::fetch_json(serve.endpoint, "/version");
  arguments.server = {{"owned_by", first.value("owned_by", "unknown")},
                      {"version", version.is_object() ? version.value("version", "unknown")
                                                      : std::string("unknown")},
                      {"max_model_len", max_model_len}};
}

std::vector<load::Prompt> make_prompts(load::PromptMaker& maker, int count, int num_tokens = 0) {
  std::vector<load::Prompt> prompts;
  for (int i = 0; i < count; ++i) {
    auto prompt = maker.make(num_tokens);
    if (!prompt) throw std::runtime_error(prompt.error().message);
    prompts.push_back(*std::move(prompt));
  }
  return prompts;
}

void warm_up(const ServeArguments& arguments, load::PromptMaker& maker) {
  if (arguments.num_warmups == 0) return;
  load::ServeOptions options = arguments.serve;
  options.request_rate = 0;
  const load::ServeResult result =
      load::run_requests(options, make_prompts(maker, arguments.num_warmups));
  for (const load::RequestRecord& record : result.records) {
    if (!record.error.empty()) throw std::runtime_error("warm-up: " + record.error);
  }
}

json describe_run(const ServeArguments& arguments, const load::PromptMaker& maker) {
  const load::PromptOptions& prompts = arguments.prompts;
  const bool is_chat = arguments.serve.type == load::EndpointType::kChat;
  const char* const datasets[] = {"random", "fixed", "image"};
  json run = {{"date", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)))},
              {"command", command_line()},
              {"server", arguments.server},
              {"model_id", arguments.serve.model},
              {"endpoint_type", is_chat ? "chat" : "completions"},
              {"dataset_name", datasets[static_cast<int>(prompts.dataset)]},
              {"random_input_len", prompts.num_tokens},
              {"random_output_len", arguments.serve.output_tokens},
              {"lengths_are_exact", maker.can_count()},
              {"ignore_eos", arguments.serve.ignore_eos},
              {"num_warmups", arguments.num_warmups},
              {"seed", arguments.serve.seed}};
  if (prompts.dataset == load::Dataset::kImage) {
    run["image_width"] = prompts.image_width;
    run["image_height"] = prompts.image_height;
    run["images_per_prompt"] = prompts.images_per_prompt;
  }
  return run;
}

void print_notes(const ServeArguments& arguments, const json& report) {
  if (report.contains("errors")) {
    for (const auto& [error, count] : report["errors"].items()) {
      fmt::print("{} x {}\n", count.get<int>(), error);
    }
  }
  if (report["output_events"].get<int64_t>() < report["total_output_tokens"].get<int64_t>() / 2) {
    fmt::print(
        "Fewer than half of the tokens came in an event of their own: ITL is between "
        "events, TPOT between tokens.\n");
  }
  if (!report["lengths_are_exact"].get<bool>() &&
      arguments.prompts.dataset != load::Dataset::kFixed) {
    fmt::print("The server has no /tokenize: prompt lengths are approximate.\n");
  }
  for (const auto& [name, value] : report["server_metrics"].items()) {
    fmt::print("{:<40} {:g}\n", name + ":", value.get<double>());
  }
}

void save(const ServeArguments& arguments, const json& report) {
  std::vector<std::string> paths;
  if (!arguments.json_path.empty()) paths.push_back(arguments.json_path);
  if (arguments.save_result) {
    paths.push_back(fmt::format("serve-{}qps-concurrency{}-{:%Y%m%d-%H%M%S}.json",
                                arguments.request_rate, arguments.serve.max_concurrency,
                                fmt::gmtime(std::time(nullptr))));
  }
  for (const std::string& path : paths) {
    write_with_plot(path, report);
    fmt::print("written: {}\n", path);
  }
}

void run(ServeArguments arguments) {
  settle_options(arguments);
  ask_server(arguments);
  load::PromptMaker maker(arguments.serve.endpoint, arguments.serve.model, arguments.prompts);
  const auto verified =
      make_prompts(maker, 1, std::min(arguments.prompts.num_tokens, kMaxVerifiedPrompt));
  require(load::verify_server(arguments.serve, verified.front(), arguments.may_vary));
  fmt::print(stderr, "verified: one greedy request, twice\n");
  const std::vector<load::Prompt> prompts = make_prompts(maker, arguments.num_prompts);
  warm_up(arguments, maker);
  load::ServerMetrics metrics(arguments.serve.endpoint);
  RequestProgress progress(prompts.size(), ::isatty(STDERR_FILENO) != 0);
  const load::ServeResult result = load::run_requests(
      arguments.serve, prompts,
      [&](const load::RequestRecord& record) { progress.add(record.output_tokens); });
  progress.finish();
  json report = describe_run(arguments, maker);
  report.update(load::report_figures(arguments.serve, result, arguments.report));
  report["server_metrics"] = metrics.finish();
  fmt::print("{}", load::report_text(report, arguments.report));
  print_notes(arguments, report);
  save(arguments, report);
  if (report["failed"].get<int64_t>() > 0) throw CLI::RuntimeError(EXIT_FAILURE);
}

void add_server_options(CLI::App& command, ServeArguments& arguments) {
  load::ServeOptions& serve = arguments.serve;
  command.add_option("--host", serve.endpoint.host, "Server address")->capture_default_str();
  command.add_option("--port", serve.endpoint.port, "Server port")->capture_default_str();
  command.add_option("--base-url", arguments.base_url, "http://host:port[/path], for both");
  command.add_option("--api-key", serve.endpoint.api_key, "Bearer key");
  command.add_option("--model", serve.model, "Model name; default: the first of /v1/models");
  const std::map<std::string, load::EndpointType> types = {
      {"chat", load::EndpointType::kChat}, {"completions", load::EndpointType::kCompletions}};
  command.add_option("--endpoint-type", serve.type, "chat or completions")
      ->transform(CLI::CheckedTransformer(types))
      ->default_str("chat");
  command.add_option("--request-timeout", arguments.request_timeout_s, "Seconds of one request")
      ->check(CLI::Range(1, 86'400))
      ->capture_default_str();
}

void add_prompt_options(CLI::App& command, load::PromptOptions& prompts) {
  const std::map<std::string, load::Dataset> datasets = {{"random", load::Dataset::kRandom},
                                                         {"fixed", load::Dataset::kFixed},
                                                         {"image", load::Dataset::kImage}};
  command
      .add_option("--dataset-name", prompts.dataset,
                  "random: distinct prompts; fixed: --prompt; image: random text and pictures")
      ->transform(CLI::CheckedTransformer(datasets))
      ->default_str("random");
  command
      .add_option("--random-input-len", prompts.num_tokens,
                  "Prompt tokens, the chat template included, pictures not")
      ->check(CLI::Range(1, 10'000'000))
      ->capture_default_str();
  command.add_option("--prompt", prompts.text, "Text of --dataset-name fixed")
      ->capture_default_str();
  command.add_option("--image-width", prompts.image_width, "Pixels")
      ->check(CLI::Range(1, 16'384))
      ->capture_default_str();
  command.add_option("--image-height", prompts.image_height, "Pixels")
      ->check(CLI::Range(1, 16'384))
      ->capture_default_str();
  command.add_option("--images-per-prompt", prompts.images_per_prompt, "Pictures of a request")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
}

void add_load_options(CLI::App& command, ServeArguments& arguments) {
  load::ServeOptions& serve = arguments.serve;
  command.add_option("--num-prompts", arguments.num_prompts, "Requests measured")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  command.add_option("--random-output-len", serve.output_tokens, "Most tokens of an answer")
      ->check(CLI::Range(1, 10'000'000))
      ->capture_default_str();
  command.add_option("--max-concurrency", serve.max_concurrency, "Requests under way; 0: no limit")
      ->check(CLI::Range(0, 100'000))
      ->capture_default_str();
  command
      .add_option("--request-rate", arguments.request_rate,
                  "Requests/s, a Poisson process; inf: all at once")
      ->capture_default_str();
  command.add_option("--seed", serve.seed, "Of prompts and arrivals")->capture_default_str();
  command.add_option("--temperature", serve.temperature, "Of the measured requests")
      ->check(CLI::Range(0.0, 2.0))
      ->capture_default_str();
  command.add_flag("--ignore-eos", serve.ignore_eos, "Answers have exactly --random-output-len");
  command.add_option("--num-warmups", arguments.num_warmups, "Requests before the measured ones")
      ->check(CLI::Range(0, 100'000))
      ->capture_default_str();
  command.add_flag("--allow-varying-answers", arguments.may_vary,
                   "Measure a server that answers a greedy request with different texts");
}

void add_report_options(CLI::App& command, ServeArguments& arguments) {
  command.add_option("--percentile-metrics", arguments.report.metrics, "Of ttft, tpot, itl, e2el")
      ->delimiter(',')
      ->check(CLI::IsMember({"ttft", "tpot", "itl", "e2el"}))
      ->default_str("ttft,tpot,itl,e2el");
  command.add_option("--metric-percentiles", arguments.report.percentiles, "Percentiles shown")
      ->delimiter(',')
      ->check(CLI::Range(0.0, 100.0))
      ->default_str("99");
  command.add_option("--json", arguments.json_path,
                     "Write the report to this file, and a plot of it beside it");
  command.add_flag("--save-result", arguments.save_result,
                   "Write the report to a file named after the run, in this folder");
}

}  // namespace

void add_serve_command(CLI::App& app) {
  auto arguments = std::make_shared<ServeArguments>();
  CLI::App* command = app.add_subcommand(
      "serve", "Load on an OpenAI-compatible server, with the figures of vllm bench serve");
  command->footer(
      "Examples:\n"
      "  beryl-bench serve --port 8000 --endpoint-type completions --random-input-len 512 \\\n"
      "    --random-output-len 512 --ignore-eos --num-prompts 300 --max-concurrency 100\n"
      "  beryl-bench serve --base-url http://gpu1:8000 --request-rate 20 --json result.json\n"
      "  beryl-bench serve --dataset-name image --images-per-prompt 2 --random-input-len 128 \\\n"
      "    --random-output-len 128 --ignore-eos --num-prompts 200 --max-concurrency 100\n"
      "Every answer is checked; a failed request makes the exit status 1.");
  add_server_options(*command, *arguments);
  add_prompt_options(*command, arguments->prompts);
  add_load_options(*command, *arguments);
  add_report_options(*command, *arguments);
  command->callback([arguments] { run(*arguments); });
}

}  // namespace beryl::bench
