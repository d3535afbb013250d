#include "coordinator/media/video/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace beryl::media {
namespace {

using std::chrono::milliseconds;

constexpr int kPipeBytes = 1 << 20;        // fewer wake-ups; less where the system says so
constexpr milliseconds kStopInterval{50};  // how soon a client's going is seen
constexpr int kFirstUninherited = 3;

class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int get() const { return value_; }
  int release() { return std::exchange(value_, -1); }

 private:
  int value_;
};

bool write_all(int to, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = write(to, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

// Sealed, so that the process can neither change nor shorten what another one may read.
int make_input(std::initializer_list<std::string_view> pieces) {
  Descriptor file(memfd_create("video", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (file.get() < 0) return -1;
  for (const std::string_view piece : pieces) {
    if (!write_all(file.get(), piece)) return -1;
  }
  const bool is_ready = fcntl(file.get(), F_ADD_SEALS,
                              F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0 &&
                        lseek(file.get(), 0, SEEK_SET) == 0;
  return is_ready ? file.release() : -1;
}

pid_t spawn(const std::string& program, int input, int output) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addclosefrom_np(&actions, kFirstUninherited);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  sigset_t signals;
  sigemptyset(&signals);
  posix_spawnattr_setsigmask(&attributes, &signals);
  sigfillset(&signals);
  posix_spawnattr_setsigdefault(&attributes, &signals);
  char* const arguments[] = {const_cast<char*>(program.c_str()), nullptr};
  char* const environment[] = {nullptr};
  pid_t pid = -1;
  const int error =
      posix_spawn(&pid, program.c_str(), &actions, &attributes, arguments, environment);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  return error == 0 ? pid : -1;
}

int time_to_wait(const StopCondition& stop) {
  const auto left =
      std::chrono::duration_cast<milliseconds>(stop.deadline - std::chrono::steady_clock::now());
  return static_cast<int>(
      std::clamp(left + milliseconds{1}, milliseconds{0}, kStopInterval).count());
}

}  // namespace

ChildProcess::ChildProcess(const std::string& program,
                           std::initializer_list<std::string_view> input) {
  const Descriptor file(make_input(input));
  int ends[2];
  if (file.get() < 0 || pipe2(ends, O_CLOEXEC) != 0) return;
  Descriptor output(ends[0]);
  const Descriptor written(ends[1]);
  (void)fcntl(output.get(), F_SETPIPE_SZ, kPipeBytes);
  if (fcntl(output.get(), F_SETFL, O_NONBLOCK) != 0) return;
  pid_ = spawn(program, file.get(), written.get());
  if (pid_ > 0) output_ = output.release();
}

ChildProcess::~ChildProcess() {
  if (pid_ > 0) (void)end();
}

ChildProcess::ReadResult ChildProcess::read(void* to, size_t num_bytes, const StopCondition& stop) {
  char* next = static_cast<char*>(to);
  while (num_bytes > 0) {
    if (stop.is_over()) return ReadResult::kOver;
    pollfd ready{output_, POLLIN, 0};
    if (poll(&ready, 1, time_to_wait(stop)) <= 0) continue;
    const ssize_t count = ::read(output_, next, num_bytes);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count <= 0) return ReadResult::kEnded;
    next += count;
    num_bytes -= static_cast<size_t>(count);
  }
  return ReadResult::kDone;
}

std::string ChildProcess::end() {
  close(output_);
  kill(pid_, SIGKILL);
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return WIFSIGNALED(status) ? fmt::format("signal {}", WTERMSIG(status))
                             : fmt::format("exit code {}", WEXITSTATUS(status));
}

}  // namespace beryl::media
