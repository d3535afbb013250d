// beryl: the launcher that people type.
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "deploy/launcher/launcher.h"
#include "deploy/launcher/tied_exec.h"

namespace {

// Returns only when the program cannot be started.
int become(const beryl::launcher::Command& command, beryl::base::Logger& log) {
  std::vector<std::string> arguments = command.arguments;
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  execv(pointers.front(), pointers.data());
  log.error("cannot start {}: {}", command.arguments.front(), std::strerror(errno));
  return EXIT_FAILURE;
}

int serve(beryl::launcher::ServeOptions options) {
  using namespace beryl::launcher;
  beryl::base::Logger log("beryl", options.log_level, options.log_format);
  auto programs = find_programs(options);
  if (!programs) {
    log.error("{}", programs.error().message);
    return EXIT_FAILURE;
  }
  if (options.dry_run) return become(dry_run_command(options, *programs), log);
  auto folder = RuntimeFolder::create();
  if (!folder) {
    log.error("{}", folder.error().message);
    return EXIT_FAILURE;
  }
  return Launcher(std::move(options), std::move(*programs), std::move(*folder), log).run();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc >= 2 && std::string_view(argv[1]) == beryl::launcher::kTiedExec) {
    return beryl::launcher::tied_exec(argv + 2);
  }
  auto parsed = beryl::launcher::parse_command_line(argc, argv);
  if (parsed.action == beryl::launcher::ParsedCommandLine::kExit) return parsed.exit_code;
  return serve(std::move(parsed.serve));
}
