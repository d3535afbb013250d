// beryl: the launcher that people type.
#include <string_view>

#include "deploy/launcher/launcher.h"
#include "deploy/launcher/tied_exec.h"

namespace {

int serve(beryl::launcher::ServeOptions options) {
  using namespace beryl::launcher;
  beryl::base::Logger log("beryl", options.log_level, options.log_format);
  auto programs = find_programs(options);
  if (!programs) {
    log.error("{}", programs.error().message);
    return EXIT_FAILURE;
  }
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
