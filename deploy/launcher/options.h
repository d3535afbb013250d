// The command line of `beryl serve`, flags named as in `vllm serve` where the meaning is the same.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "parallel/base/log.h"

namespace beryl::launcher {

// A flag that the launcher only hands on, under the same name, if it was given.
struct ForwardedFlag {
  enum Destination { kCoordinator = 1, kWorker = 2, kBoth = 3 };
  const char* name;        // "--max-model-len"
  const char* value_name;  // "N", for the help; empty: a switch without a value
  const char* section;     // of the help
  const char* help;
  Destination destination;
};

// All of them. What they mean is documented, and checked, by the program that takes them.
const std::vector<ForwardedFlag>& forwarded_flags();

struct ServeOptions {
  std::string model;  // folder in the published format
  std::string tokenizer;
  std::vector<std::string> served_model_names;
  std::string host = "127.0.0.1";
  uint16_t port = 8000;  // 0: any free one
  std::vector<std::string> api_keys;
  uint32_t workers = 1;  // ranks of a group
  uint32_t groups = 1;
  std::chrono::seconds shutdown_timeout{60};
  std::chrono::seconds startup_timeout{1800};
  bool dry_run = false;  // print the memory plan of a rank, start nothing
  base::LogLevel log_level = base::LogLevel::kInfo;
  base::LogFormat log_format = base::LogFormat::kText;
  // Given forwarded flags: name without dashes -> value ("" of a switch).
  std::map<std::string, std::string> forwarded;
};

constexpr uint32_t kMaxWorkers = 1024;
constexpr uint32_t kMaxGroups = 64;

struct ParsedCommandLine {
  enum Action { kServe, kExit };
  Action action = kExit;
  int exit_code = 0;  // for kExit, after help, version or an error has been printed
  ServeOptions serve;
};

ParsedCommandLine parse_command_line(int argc, const char* const* argv);

}  // namespace beryl::launcher
