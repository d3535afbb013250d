#include "deploy/launcher/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace beryl::launcher {
namespace {

// Both are built before the fork: between fork and exec only simple calls are safe.
struct ExecVectors {
  explicit ExecVectors(const Command& command) : arguments(command.arguments) {
    for (char** entry = environ; *entry != nullptr; ++entry) {
      const std::string_view text = *entry;
      const std::string_view name = text.substr(0, text.find('='));
      bool replaced = false;
      for (const auto& [key, value] : command.environment) replaced = replaced || key == name;
      if (!replaced) environment.emplace_back(text);
    }
    for (const auto& [key, value] : command.environment) environment.push_back(key + "=" + value);
    for (std::string& argument : arguments) argv.push_back(argument.data());
    for (std::string& entry : environment) envp.push_back(entry.data());
    argv.push_back(nullptr);
    envp.push_back(nullptr);
  }

  std::vector<std::string> arguments;
  std::vector<std::string> environment;
  std::vector<char*> argv;
  std::vector<char*> envp;
};

void reset_signals() {
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

// In the child. Reports errno through `error_fd`, which exec closes.
[[noreturn]] void become(const ExecVectors& vectors, pid_t launcher, int inherited, int error_fd) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != launcher) _exit(EXIT_FAILURE);  // it died before the line above
  reset_signals();
  const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null >= 0) dup2(null, STDIN_FILENO);
  if (inherited == kChildDescriptor) {
    fcntl(inherited, F_SETFD, 0);
  } else if (inherited != kNoDescriptor) {
    if (error_fd == kChildDescriptor) {
      const int moved = fcntl(error_fd, F_DUPFD_CLOEXEC, kChildDescriptor + 1);
      if (moved >= 0) error_fd = moved;
    }
    dup2(inherited, kChildDescriptor);
  }
  execvpe(vectors.argv[0], vectors.argv.data(), vectors.envp.data());
  const int error = errno;
  const ssize_t written = write(error_fd, &error, sizeof error);
  _exit(written == sizeof error ? 127 : 126);
}

}  // namespace

std::string to_text(const Command& command) {
  std::string text;
  for (const std::string& argument : command.arguments) {
    const bool plain =
        !argument.empty() && argument.find_first_of(" '\"\\$*?;&|<>()`\n") == std::string::npos;
    if (!text.empty()) text += ' ';
    text += plain ? argument : fmt::format("'{}'", argument);
  }
  return text;
}

base::Expected<pid_t> start_process(const Command& command, int inherited) {
  BERYL_ASSERT(!command.arguments.empty(), "a command without a program");
  const ExecVectors vectors(command);
  int error_pipe[2];
  if (pipe2(error_pipe, O_CLOEXEC) != 0) {
    return base::Error{
        base::ErrorCode::kInternal, fmt::format("pipe: {}", strerror(errno)), {}, {}};
  }
  const pid_t launcher = getpid();
  const pid_t child = fork();
  if (child == 0) become(vectors, launcher, inherited, error_pipe[1]);
  close(error_pipe[1]);
  int error = child < 0 ? errno : 0;
  if (child > 0) {
    setpgid(child, child);  // also here, so that the group exists when this function returns
    if (read(error_pipe[0], &error, sizeof error) == sizeof error) waitpid(child, nullptr, 0);
  }
  close(error_pipe[0]);
  if (error != 0) {
    return base::Error{base::ErrorCode::kInternal,
                       fmt::format("cannot start {}: {}", command.arguments[0], strerror(error)),
                       {},
                       {}};
  }
  return child;
}

void signal_group(pid_t leader, int signal) {
  if (leader > 1) kill(-leader, signal);
}

std::string to_text(const ProcessExit& exit) {
  if (!exit.by_signal) return fmt::format("exit status {}", exit.code);
  return fmt::format("signal {} ({})", exit.code, strsignal(exit.code));
}

std::vector<ProcessExit> reap_children() {
  std::vector<ProcessExit> exits;
  int status = 0;
  for (pid_t pid = waitpid(-1, &status, WNOHANG); pid > 0; pid = waitpid(-1, &status, WNOHANG)) {
    const bool by_signal = WIFSIGNALED(status);
    exits.push_back({pid, by_signal, by_signal ? WTERMSIG(status) : WEXITSTATUS(status)});
  }
  return exits;
}

void adopt_orphans() {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
}

}  // namespace beryl::launcher
