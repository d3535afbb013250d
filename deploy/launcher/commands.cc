#include "deploy/launcher/commands.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <system_error>
#include <thread>

#include "deploy/launcher/process_table.h"
#include "deploy/launcher/tied_exec.h"

namespace beryl::launcher {
namespace {

namespace fs = std::filesystem;

std::string find_in_path(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path != nullptr ? path : "");
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::string candidate = (folder.empty() ? "." : folder) + "/" + name;
    if (access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return {};
}

void append_forwarded(const ServeOptions& options, ForwardedFlag::Destination destination,
                      Command* command) {
  for (const ForwardedFlag& flag : forwarded_flags()) {
    const auto given = options.forwarded.find(flag.name + 2);
    if (given == options.forwarded.end() || (flag.destination & destination) == 0) continue;
    command->arguments.push_back(flag.name);
    if (*flag.value_name != 0) command->arguments.push_back(given->second);
  }
}

void append_log_flags(const ServeOptions& options, Command* command) {
  const char* level = "info";
  switch (options.log_level) {
    case base::LogLevel::kDebug:
      level = "debug";
      break;
    case base::LogLevel::kInfo:
      level = "info";
      break;
    case base::LogLevel::kWarning:
      level = "warning";
      break;
    case base::LogLevel::kError:
      level = "error";
      break;
  }
  const char* format = options.log_format == base::LogFormat::kJson ? "json" : "text";
  command->arguments.insert(command->arguments.end(),
                            {"--log-level", level, "--log-format", format});
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ",") + part;
  return text;
}

// Ranks may outnumber cores, all on this machine, perhaps as root of a container. What MPI keeps in
// shared memory goes where the launcher removes it, because a killed rank cannot.
std::vector<std::string> mpirun_arguments(const Programs& programs, uint32_t workers,
                                          const std::string& folder) {
  return {programs.mpirun,
          "--allow-run-as-root",
          "--oversubscribe",
          "--bind-to",
          "none",
          "--mca",
          "orte_tmpdir_base",
          folder,
          "--mca",
          "btl_vader_backing_directory",
          folder,
          "--mca",
          "btl_vader_single_copy_mechanism",
          "none",
          "-n",
          std::to_string(workers)};
}

}  // namespace

base::Expected<Programs> find_programs(const ServeOptions& options) {
  std::error_code error;
  Programs programs;
  programs.launcher = fs::read_symlink("/proc/self/exe", error);
  const fs::path folder = fs::path(programs.launcher).parent_path();
  programs.coordinator = folder / "beryl-coordinator";
  programs.worker = folder / "beryl-worker";
  for (const std::string& program : {programs.coordinator, programs.worker}) {
    if (access(program.c_str(), X_OK) == 0) continue;
    return base::Error{base::ErrorCode::kNotFound,
                       fmt::format("{} is missing: build it, or install it beside beryl", program),
                       {},
                       {}};
  }
  programs.mpirun = find_in_path("mpirun");
  if (programs.mpirun.empty() && options.workers > 1) {
    return base::invalid_argument(
        "--workers", fmt::format("{} ranks need mpirun, which is not in PATH (Debian: openmpi-bin)",
                                 options.workers));
  }
  return programs;
}

std::string model_name(const ServeOptions& options) {
  if (!options.served_model_names.empty()) return options.served_model_names.front();
  std::error_code error;
  const fs::path path = fs::weakly_canonical(options.model, error);
  return path.has_filename() ? path.filename() : path.parent_path().filename();
}

Command coordinator_command(const ServeOptions& options, const Programs& programs,
                            const std::string& secret_file) {
  Command command;
  command.arguments = {programs.coordinator,
                       options.model,
                       "--host",
                       options.host,
                       "--port",
                       std::to_string(options.port),
                       "--worker-host",
                       "127.0.0.1",
                       "--worker-port",
                       "0",
                       "--secret-file",
                       secret_file,
                       "--event-fd",
                       std::to_string(kChildDescriptor),
                       "--shutdown-timeout",
                       std::to_string(options.shutdown_timeout.count())};
  if (!options.tokenizer.empty()) {
    command.arguments.insert(command.arguments.end(), {"--tokenizer", options.tokenizer});
  }
  if (!options.served_model_names.empty()) {
    command.arguments.push_back("--served-model-name");
    for (const std::string& name : options.served_model_names) command.arguments.push_back(name);
  }
  append_forwarded(options, ForwardedFlag::kCoordinator, &command);
  append_log_flags(options, &command);
  // Not as an argument, which every user of the machine could read.
  if (!options.api_keys.empty()) {
    command.environment.emplace_back(kApiKeyVariable, joined(options.api_keys));
  }
  return command;
}

Command dry_run_command(const ServeOptions& options, const Programs& programs) {
  Command command;
  command.arguments = {programs.worker, options.model, "--dry-run", "--ranks-as-threads",
                       std::to_string(options.workers)};
  append_forwarded(options, ForwardedFlag::kWorker, &command);
  append_log_flags(options, &command);
  return command;
}

Command job_command(const ServeOptions& options, const Programs& programs, const Job& job) {
  Command command;
  command.environment.emplace_back(kLaunchVariable, job.launch_id);
  if (!programs.mpirun.empty()) {
    command.arguments = mpirun_arguments(programs, options.workers, job.folder);
    command.arguments.insert(command.arguments.end(), {programs.launcher, kTiedExec});
  }
  const std::vector<std::string> worker{
      programs.worker,           options.model, "--coordinator", job.coordinator, "--group",
      std::to_string(job.group), "--launch-id", job.launch_id,   "--secret-file", job.secret_file};
  command.arguments.insert(command.arguments.end(), worker.begin(), worker.end());
  append_forwarded(options, ForwardedFlag::kWorker, &command);
  // A rank divides the cores by the ranks of its own group; it cannot know of other groups.
  if (options.groups > 1 && options.forwarded.count("threads") == 0) {
    const uint32_t cores = std::max(1U, std::thread::hardware_concurrency());
    const uint32_t threads = std::max(1U, cores / (options.workers * options.groups));
    command.arguments.insert(command.arguments.end(), {"--threads", std::to_string(threads)});
  }
  append_log_flags(options, &command);
  return command;
}

}  // namespace beryl::launcher
