#include "deploy/launcher/tied_exec.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace beryl::launcher {

int tied_exec(char** argv) {
  if (argv[0] == nullptr) {
    fmt::print(stderr, "beryl {}: no program given\n", kTiedExec);
    return 2;
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() == 1) return 1;  // the parent died before the line above
  execvp(argv[0], argv);
  fmt::print(stderr, "beryl {}: cannot start {}: {}\n", kTiedExec, argv[0], strerror(errno));
  return 127;
}

}  // namespace beryl::launcher
