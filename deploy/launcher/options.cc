#include "deploy/launcher/options.h"

#include <CLI/CLI.hpp>

namespace beryl::launcher {
namespace {

constexpr const char* kModelSection = "Model";
constexpr const char* kServerSection = "Server";
constexpr const char* kClusterSection = "Cluster";
constexpr const char* kEngineSection = "Engine";
constexpr const char* kFailureSection = "Failure";
constexpr const char* kOperationSection = "Operation";

constexpr const char* kDeviceMemory = "--device-memory";

constexpr const char* kExamples = R"(Examples:
  beryl serve models/gemma --workers 2
      one group of two ranks, each holding half of the experts, on http://127.0.0.1:8000
  beryl serve models/gemma --workers 4 --groups 2 --host 0.0.0.0 --api-key KEY
      two copies of the model, open to the network
  beryl serve CONFIG_DIR --load-format dummy --seed 1 --tokenizer TOKENIZER_DIR
      random weights of the size config.json gives: for measurements without files
  beryl serve models/gemma --device cuda --dry-run --device-memory 80GB
      what a rank's memory would go to on a GPU of that size, which need not be here

Stop with Ctrl-C: running requests are finished first, a second Ctrl-C ends at once.)";

struct Values {
  std::map<std::string, std::string> texts;
  std::map<std::string, bool> switches;
};

void add_forwarded(CLI::App* app, Values* values) {
  for (const ForwardedFlag& flag : forwarded_flags()) {
    const std::string name = flag.name + 2;
    CLI::Option* option = *flag.value_name == 0
                              ? app->add_flag(flag.name, values->switches[name], flag.help)
                              : app->add_option(flag.name, values->texts[name], flag.help)
                                    ->type_name(flag.value_name);
    option->group(flag.section);
  }
}

void add_model_and_server(CLI::App* app, ServeOptions* options) {
  app->add_option("model", options->model, "Folder with config.json, weights and tokenizer")
      ->type_name("MODEL_DIR")
      ->required();
  app->add_option("--tokenizer", options->tokenizer, "Take the tokenizer from another folder")
      ->type_name("DIR")
      ->group(kModelSection);
  app->add_option("--served-model-name", options->served_model_names,
                  "Names clients may use; the first is listed (default: the folder's name)")
      ->type_name("NAME")
      ->group(kModelSection);
  app->add_option("--host", options->host, "Address to listen on (0.0.0.0: every interface)")
      ->type_name("ADDRESS")
      ->capture_default_str()
      ->group(kServerSection);
  app->add_option("--port", options->port, "Port to listen on; 0: any free one")
      ->type_name("PORT")
      ->capture_default_str()
      ->group(kServerSection);
  app->add_option("--api-key", options->api_keys,
                  "Key that clients must send; may be repeated (also: BERYL_API_KEY, which ps does "
                  "not show)")
      ->type_name("KEY")
      ->allow_extra_args(false)
      ->group(kServerSection);
}

void add_cluster_and_operation(CLI::App* app, ServeOptions* options) {
  app->add_option("--workers", options->workers,
                  "Ranks of a group; each holds a part of the experts")
      ->type_name("N")
      ->check(CLI::Range(1U, kMaxWorkers).description(""))
      ->capture_default_str()
      ->group(kClusterSection);
  app->add_option("--groups", options->groups, "Copies of the model")
      ->type_name("G")
      ->check(CLI::Range(1U, kMaxGroups).description(""))
      ->capture_default_str()
      ->group(kClusterSection);
  CLI::Option* const dry_run =
      app->add_flag("--dry-run", options->dry_run,
                    "Print the memory plan of a rank and what options cost, start nothing")
          ->group(kOperationSection);
  app->get_option(kDeviceMemory)->needs(dry_run);
  app->add_option_function<uint32_t>(
         "--startup-timeout",
         [options](uint32_t seconds) { options->startup_timeout = std::chrono::seconds(seconds); },
         "Seconds a group may take from its start until it is ready (default: 1800)")
      ->type_name("S")
      ->check(CLI::Range(1U, 86'400U).description(""))
      ->group(kOperationSection);
  app->add_option_function<uint32_t>(
         "--shutdown-timeout",
         [options](uint32_t seconds) { options->shutdown_timeout = std::chrono::seconds(seconds); },
         "Seconds that running requests get to finish after Ctrl-C or SIGTERM (default: 60)")
      ->type_name("S")
      ->check(CLI::Range(0U, 86'400U).description(""))
      ->group(kOperationSection);
  const std::map<std::string, base::LogLevel> levels{{"debug", base::LogLevel::kDebug},
                                                     {"info", base::LogLevel::kInfo},
                                                     {"warning", base::LogLevel::kWarning},
                                                     {"error", base::LogLevel::kError}};
  app->add_option("--log-level", options->log_level, "debug, info, warning or error")
      ->transform(CLI::CheckedTransformer(levels).description(""))
      ->type_name("LEVEL")
      ->group(kOperationSection);
  const std::map<std::string, base::LogFormat> formats{{"text", base::LogFormat::kText},
                                                       {"json", base::LogFormat::kJson}};
  app->add_option("--log-format", options->log_format, "text or json, one object a line")
      ->transform(CLI::CheckedTransformer(formats).description(""))
      ->type_name("FORMAT")
      ->group(kOperationSection);
}

}  // namespace

const std::vector<ForwardedFlag>& forwarded_flags() {
  using F = ForwardedFlag;
  static const std::vector<ForwardedFlag> flags{
      {"--load-format", "FORMAT", kModelSection,
       "auto: the files in MODEL_DIR; dummy: weights made from --seed", F::kWorker},
      {"--seed", "S", kModelSection, "Seed of dummy weights", F::kWorker},
      {"--dummy-post-norm", "X", kModelSection,
       "Dummy weights: what each block adds to the residual stream", F::kWorker},
      {"--max-model-len", "N", kModelSection, "Longest request in tokens, answer included",
       F::kWorker},
      {"--enable-thinking", "", kModelSection, "Think where a request does not say",
       F::kCoordinator},
      {"--allowed-origins", "ORIGIN", kServerSection,
       "Origin of web pages that may call (CORS); * for all", F::kCoordinator},
      {"--metrics-need-key", "", kServerSection, "Protect /metrics as well", F::kCoordinator},
      {"--http-threads", "N", kServerSection, "Threads for connections", F::kCoordinator},
      {"--request-timeout", "S", kServerSection, "Longest generation", F::kCoordinator},
      {"--limit-mm-per-prompt", "JSON", kServerSection,
       "Most media of one request, e.g. {\"image\": 4}", F::kCoordinator},
      {"--allowed-media-domains", "HOST", kServerSection,
       "Host that pictures may be fetched from (default: all with a public address)",
       F::kCoordinator},
      {"--allowed-local-media-path", "DIR", kServerSection,
       "Directory below which file: URLs may be read", F::kCoordinator},
      {"--max-image-pixels", "N", kServerSection, "Width times height of a picture",
       F::kCoordinator},
      {"--max-num-queued", "N", kServerSection,
       "Requests of a group that may wait; beyond it clients get 429", F::kCoordinator},
      {"--max-queued-tokens", "N", kServerSection, "Prompt tokens of a group that may wait",
       F::kCoordinator},
      {"--target-itl", "MS", kEngineSection,
       "Milliseconds between tokens that prompts of others may not exceed", F::kCoordinator},
      {"--device", "DEVICE", kEngineSection, "cpu, or cuda for one GPU (default: cpu)", F::kWorker},
      {"--threads", "N", kEngineSection, "Threads of a rank (default: cores / ranks)", F::kWorker},
      {"--kv-cache-memory", "SIZE", kEngineSection, "KV cache of a rank, e.g. 8GB", F::kWorker},
      {"--kv-cache-dtype", "DTYPE", kEngineSection,
       "auto, bf16 (cuda) or float32 (cpu): what keys and values are kept as", F::kWorker},
      {"--gpu-memory-utilization", "F", kEngineSection,
       "Part of a GPU's memory that a rank may use (default: 0.95)", F::kWorker},
      {"--feature-cache-tokens", "N", kEngineSection,
       "Soft tokens of pictures a rank keeps; 0: no pictures (default: 16384)", F::kWorker},
      {"--block-size", "N", kEngineSection, "Positions of a KV cache block", F::kWorker},
      {"--max-num-seqs", "N", kEngineSection,
       "Requests a rank computes at once (default: 64; cuda 256)", F::kWorker},
      {"--max-num-batched-tokens", "N", kEngineSection,
       "Tokens of one step on one rank (default: 2048; cuda 8192)", F::kWorker},
      {"--no-graphs", "", kEngineSection,
       "CUDA: start each kernel of a step by itself, for comparisons", F::kWorker},
      {"--no-overlap", "", kEngineSection,
       "CUDA: start a kernel when the one before has ended, for comparisons", F::kWorker},
      {"--kernel-arch", "ARCH", kEngineSection,
       "CUDA: best, the kernels made for the device; sm_80, those that every device runs (default: "
       "best)",
       F::kWorker},
      {kDeviceMemory, "SIZE", kOperationSection,
       "Dry run: plan for a device of this size, e.g. 80GB (default: the one that is here)",
       F::kWorker},
      {"--collective-timeout", "S", kFailureSection, "Longest wait for other ranks in a step",
       F::kWorker},
      {"--heartbeat-interval", "S", kFailureSection, "Between signs of life of a rank",
       F::kCoordinator},
      {"--heartbeat-deadline", "S", kFailureSection, "Silence after which a rank is given up",
       F::kCoordinator},
      {"--step-deadline", "S", kFailureSection,
       "Time without a finished step after which a group is given up", F::kCoordinator},
  };
  return flags;
}

ParsedCommandLine parse_command_line(int argc, const char* const* argv) {
  ParsedCommandLine parsed;
  Values values;
  CLI::App app("Beryl serves Gemma 4 on one machine or a cluster.", "beryl");
  app.require_subcommand(1);
  app.set_version_flag("--version", BERYL_VERSION);
  CLI::App* serve =
      app.add_subcommand("serve", "Start a coordinator and its group(s) on this machine");
  serve->footer(kExamples);
  add_model_and_server(serve, &parsed.serve);
  add_forwarded(serve, &values);
  add_cluster_and_operation(serve, &parsed.serve);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    parsed.exit_code = app.exit(error) == 0 ? 0 : 2;
    return parsed;
  }
  for (const ForwardedFlag& flag : forwarded_flags()) {
    if (serve->count(flag.name) == 0) continue;
    const std::string name = flag.name + 2;
    parsed.serve.forwarded[name] = *flag.value_name == 0 ? "" : values.texts[name];
  }
  parsed.action = ParsedCommandLine::kServe;
  return parsed;
}

}  // namespace beryl::launcher
