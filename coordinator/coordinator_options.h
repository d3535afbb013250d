// The command line of beryl-coordinator. Names as in `vllm serve` where the meaning is the same.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/cluster/cluster_options.h"
#include "coordinator/media/media_options.h"
#include "parallel/base/log.h"

namespace beryl {

struct CoordinatorOptions {
  std::string model_dir;
  std::string tokenizer_dir;  // empty: model_dir
  std::vector<std::string> served_model_names;
  bool enable_thinking = false;

  std::string host = "127.0.0.1";
  uint16_t port = 8000;
  std::vector<std::string> api_keys;
  bool metrics_need_key = false;
  std::vector<std::string> allowed_origins;
  uint32_t num_io_threads = 2;
  uint32_t request_timeout_s = 3'600;
  uint32_t shutdown_timeout_s = 60;
  media::MediaOptions media;

  cluster::ClusterOptions cluster;
  std::string secret_file;

  int event_fd = -1;
  base::LogFormat log_format = base::LogFormat::kText;
  base::LogLevel log_level = base::LogLevel::kInfo;
};

struct ParsedCoordinatorOptions {
  CoordinatorOptions options;
  bool run = false;
  int exit_code = 0;
};

ParsedCoordinatorOptions parse_coordinator_options(int argc, const char* const* argv);

}  // namespace beryl
