#include "coordinator/coordinator_options.h"

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "coordinator/media/video/video_decoder.h"

namespace beryl {
namespace {

constexpr int kUsageExitCode = 2;
constexpr const char* kKeyVariable = "BERYL_API_KEY";
constexpr const char* kExamples = R"(Examples:
  Serve on this machine; workers connect to port 8101:
    beryl-coordinator /models/gemma-4-26B-A4B-it --worker-port 8101 --secret-file secret
  Serve a network, workers on other machines:
    beryl-coordinator MODEL_DIR --host 0.0.0.0 --worker-host 10.0.0.1 --worker-port 8101 \
        --secret-file secret --api-key KEY
On one machine `beryl serve MODEL_DIR` starts this and the workers.)";

// Milliseconds of a flag in seconds.
template <typename Duration>
CLI::Option* add_seconds(CLI::App& app, const std::string& name, Duration& value,
                         const std::string& help) {
  return app
      .add_option_function<double>(
          name,
          [&value](double seconds) {
            value = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
          },
          help)
      ->check(CLI::Range(0.01, 3'600.0))
      ->type_name("SECONDS");
}

void add_model_options(CLI::App& app, CoordinatorOptions& options) {
  const char* group = "Model";
  app.add_option("MODEL_DIR,--model", options.model_dir,
                 "Directory with tokenizer.json and the configuration files")
      ->required()
      ->check(CLI::ExistingDirectory);
  app.add_option("--tokenizer", options.tokenizer_dir, "Directory of tokenizer.json [MODEL_DIR]")
      ->check(CLI::ExistingDirectory)
      ->group(group);
  app.add_option("--served-model-name", options.served_model_names,
                 "Names that clients may use; the first is shown [name of the directory]")
      ->group(group);
  app.add_flag("--enable-thinking", options.enable_thinking,
               "Think before answering where a request does not say")
      ->group(group);
}

void add_http_options(CLI::App& app, CoordinatorOptions& options) {
  const char* group = "HTTP";
  app.add_option("--host", options.host, "Address to listen on; 0.0.0.0 for all interfaces")
      ->capture_default_str()
      ->group(group);
  app.add_option("--port", options.port, "Port; 0 takes a free one")
      ->capture_default_str()
      ->group(group);
  app.add_option("--api-key", options.api_keys,
                 "Key that clients must send; may be repeated [BERYL_API_KEY, separated by commas]")
      ->allow_extra_args(false)
      ->group(group);
  app.add_flag("--metrics-need-key", options.metrics_need_key, "Protect /metrics as well")
      ->group(group);
  app.add_option("--allowed-origins", options.allowed_origins,
                 "Origins of web pages that may call (CORS); * for all")
      ->group(group);
  app.add_option("--http-threads", options.num_io_threads, "Threads for connections")
      ->check(CLI::Range(1U, 256U))
      ->capture_default_str()
      ->group(group);
  app.add_option("--request-timeout", options.request_timeout_s, "Longest generation, in seconds")
      ->check(CLI::Range(1U, 604'800U))
      ->capture_default_str()
      ->group(group);
  app.add_option("--shutdown-timeout", options.shutdown_timeout_s,
                 "Seconds that running requests get after SIGTERM")
      ->check(CLI::Range(0U, 86'400U))
      ->capture_default_str()
      ->group(group);
}

// {"image": 4, "video": 1}, as in vLLM.
void read_media_limits(const std::string& text, media::MediaOptions& media) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  const auto fail = [] {
    throw CLI::ValidationError("--limit-mm-per-prompt", "needs JSON such as {\"image\": 4}");
  };
  if (!json.is_object()) fail();
  for (const auto& [name, limit] : json.items()) {
    const bool is_known = name == "image" || name == "video";
    if (!is_known || !limit.is_number_unsigned() || limit.get<uint64_t>() > 10'000) fail();
    (name == "image" ? media.max_images_per_prompt : media.max_videos_per_prompt) =
        limit.get<uint32_t>();
  }
}

void add_media_options(CLI::App& app, CoordinatorOptions& options) {
  const char* group = "Pictures and videos";
  media::MediaOptions& media = options.media;
  app.add_option_function<std::string>(
         "--limit-mm-per-prompt",
         [&media](const std::string& text) { read_media_limits(text, media); },
         "Most media of one request [{\"image\": 32, \"video\": 2}]")
      ->type_name("JSON")
      ->group(group);
  app.add_option("--allowed-media-domains", media.fetch.allowed_hosts,
                 "Hosts that pictures may be fetched from [all with a public address]")
      ->group(group);
  app.add_option("--allowed-local-media-path", media.allowed_local_media_path,
                 "Directory below which file: URLs may be read [none]")
      ->check(CLI::ExistingDirectory)
      ->group(group);
  app.add_option("--max-image-pixels", media.image.max_image_pixels,
                 "Width times height of a picture")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 30U))
      ->capture_default_str()
      ->group(group);
}

void add_video_options(CLI::App& app, CoordinatorOptions& options) {
  const char* group = "Video files";
  media::VideoLimits& video = options.media.video;
  app.add_option(
         "--video-decoder", options.media.video_decoder_path,
         "Program that decodes one video in a process of its own [beryl-decode-video beside "
         "this program; without it only lists of pictures are read]")
      ->check(CLI::ExistingFile)
      ->group(group);
  app.add_option("--max-video-bytes", video.max_video_bytes, "Size of a video")
      ->check(CLI::Range(size_t{1}, size_t{1} << 40U))
      ->capture_default_str()
      ->group(group);
  app.add_option("--max-video-seconds", video.max_video_seconds, "Length of a video")
      ->check(CLI::Range(1U, 1'000'000U))
      ->capture_default_str()
      ->group(group);
  app.add_option("--max-video-pixels", video.max_video_pixels, "Width times height of a frame")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 30U))
      ->capture_default_str()
      ->group(group);
  app.add_option("--max-video-frames", video.max_frames, "Frames of a video shown to the model")
      ->check(CLI::Range(1U, 4'096U))
      ->capture_default_str()
      ->group(group);
  app.add_option_function<uint64_t>(
         "--video-decoder-memory",
         [&video](uint64_t mib) { video.max_decoder_memory_bytes = mib << 20U; },
         "MiB of address space that the decoder of one video may use [1024]")
      ->check(CLI::Range(uint64_t{256}, uint64_t{1} << 20U))
      ->group(group);
  add_seconds(app, "--video-decoder-timeout", video.max_decoding_time,
              "Time that decoding one video may take, by the clock [45]")
      ->group(group);
}

void add_scheduling_options(CLI::App& app, CoordinatorOptions& options) {
  const char* group = "Scheduling";
  scheduler::SchedulerConfig& config = options.cluster.scheduler;
  app.add_option("--max-num-queued", config.max_queued_requests,
                 "Requests of a group that may wait; beyond it clients get 429")
      ->check(CLI::Range(1U, 1'000'000U))
      ->capture_default_str()
      ->group(group);
  app.add_option("--max-queued-tokens", config.max_queued_tokens,
                 "Prompt tokens of a group that may wait")
      ->capture_default_str()
      ->group(group);
  app.add_option_function<double>(
         "--target-itl",
         [&config](double ms) { config.target_itl_us = static_cast<int64_t>(ms * 1000); },
         "Milliseconds between tokens that prompts of others may not exceed [100]")
      ->check(CLI::Range(1.0, 60'000.0))
      ->group(group);
}

void add_cluster_options(CLI::App& app, CoordinatorOptions& options) {
  const char* group = "Workers";
  cluster::ClusterOptions& cluster = options.cluster;
  app.add_option("--worker-host", cluster.worker_host, "Address where workers connect")
      ->capture_default_str()
      ->group(group);
  app.add_option("--worker-port", cluster.worker_port, "Port for workers; 0 takes a free one")
      ->capture_default_str()
      ->group(group);
  app.add_option("--secret-file", options.secret_file,
                 "File with the cluster's secret [environment BERYL_CLUSTER_SECRET]")
      ->group(group);
  add_seconds(app, "--heartbeat-interval", cluster.heartbeat_interval,
              "Between signs of life [0.5]")
      ->group(group);
  add_seconds(app, "--heartbeat-deadline", cluster.heartbeat_deadline,
              "Silence after which a rank is given up [4]")
      ->group(group);
  add_seconds(app, "--step-deadline", cluster.step_deadline,
              "Time without a finished step after which a group is given up [60]")
      ->group(group);
}

void add_process_options(CLI::App& app, CoordinatorOptions& options) {
  const char* group = "Process";
  static const std::map<std::string, base::LogFormat> kFormats = {{"text", base::LogFormat::kText},
                                                                  {"json", base::LogFormat::kJson}};
  static const std::map<std::string, base::LogLevel> kLevels = {
      {"debug", base::LogLevel::kDebug},
      {"info", base::LogLevel::kInfo},
      {"warning", base::LogLevel::kWarning},
      {"error", base::LogLevel::kError}};
  app.add_option("--log-format", options.log_format, "text or json")
      ->transform(CLI::CheckedTransformer(kFormats, CLI::ignore_case))
      ->group(group);
  app.add_option("--log-level", options.log_level, "debug, info, warning or error")
      ->transform(CLI::CheckedTransformer(kLevels, CLI::ignore_case))
      ->group(group);
  app.add_option("--event-fd", options.event_fd,
                 "Inherited descriptor that gets one JSON object a line for a launcher")
      ->check(CLI::Range(0, 65'535))
      ->group(group);
}

// What the command line leaves open.
void complete(CoordinatorOptions& options) {
  if (options.media.video_decoder_path.empty()) {
    options.media.video_decoder_path = media::find_video_decoder();
  }
  if (options.tokenizer_dir.empty()) options.tokenizer_dir = options.model_dir;
  if (options.served_model_names.empty()) {
    const auto path = std::filesystem::weakly_canonical(options.model_dir);
    options.served_model_names.push_back(
        path.has_filename() ? path.filename().string() : path.parent_path().filename().string());
  }
  const char* keys = std::getenv(kKeyVariable);
  if (!options.api_keys.empty() || keys == nullptr) return;
  std::istringstream text(keys);
  for (std::string key; std::getline(text, key, ',');) {
    if (!key.empty()) options.api_keys.push_back(key);
  }
}

}  // namespace

ParsedCoordinatorOptions parse_coordinator_options(int argc, const char* const* argv) {
  ParsedCoordinatorOptions parsed;
  CLI::App app("beryl-coordinator: the OpenAI-compatible server in front of groups of workers");
  app.footer(kExamples);
  app.set_version_flag("--version", BERYL_VERSION);
  add_model_options(app, parsed.options);
  add_http_options(app, parsed.options);
  add_media_options(app, parsed.options);
  add_video_options(app, parsed.options);
  add_scheduling_options(app, parsed.options);
  add_cluster_options(app, parsed.options);
  add_process_options(app, parsed.options);
  try {
    app.parse(argc, argv);
    complete(parsed.options);
    parsed.run = true;
  } catch (const CLI::ParseError& error) {
    parsed.exit_code = app.exit(error) == 0 ? 0 : kUsageExitCode;
  }
  return parsed;
}

}  // namespace beryl
