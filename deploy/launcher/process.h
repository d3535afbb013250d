// Child processes: started in a process group of their own (so that a Ctrl-C reaches the launcher
// alone, and a whole job can be killed at once) and tied to the launcher's life.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "parallel/base/expected.h"

namespace beryl::launcher {

struct Command {
  std::vector<std::string> arguments;  // [0] is the program, found in PATH if it has no slash
  std::vector<std::pair<std::string, std::string>> environment;  // added to the launcher's own
};

// The arguments as a shell would take them, for logs.
std::string to_text(const Command& command);

constexpr int kNoDescriptor = -1;
// The number under which a child finds the descriptor that was passed to it.
constexpr int kChildDescriptor = 3;

// Starts `command` with stdin from /dev/null, stdout and stderr shared, every signal at its default
// and SIGKILL as its fate when the launcher dies. `inherited` (or kNoDescriptor) appears in the
// child as kChildDescriptor. NOTE: call it from the main thread only: the kernel ties the child to
// the thread that forked. Fails if the program cannot be executed.
base::Expected<pid_t> start_process(const Command& command, int inherited = kNoDescriptor);

// Signals the whole group that start_process made. A group that is gone is no error.
void signal_group(pid_t leader, int signal);

struct ProcessExit {
  pid_t pid = 0;
  bool by_signal = false;
  int code = 0;  // exit status or signal number
};
std::string to_text(const ProcessExit& exit);  // "exit status 3", "signal 9 (Killed)"

// All children that have ended and were not yet reported, without waiting.
std::vector<ProcessExit> reap_children();

// Descendants whose parents die become children of the caller instead of init's, so that none is
// lost sight of. Call once, at start.
void adopt_orphans();

}  // namespace beryl::launcher
