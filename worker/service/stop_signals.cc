#include "worker/service/stop_signals.h"

#include <pthread.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <chrono>
#include <utility>

namespace beryl::service {
namespace {

constexpr std::chrono::seconds kStopGrace{5};
constexpr int kExitKilled = 1;

}  // namespace

StopSignals::StopSignals(std::function<void(const std::string& reason)> on_stop)
    : on_stop_(std::move(on_stop)) {
  sigemptyset(&signals_);
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) sigaddset(&signals_, signal);
  pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  thread_ = std::thread([this] { wait_loop(); });
}

StopSignals::~StopSignals() {
  pthread_kill(thread_.native_handle(), SIGUSR1);  // our own way out of the wait
  thread_.join();
}

void StopSignals::wait_loop() {
  int signal = 0;
  if (sigwait(&signals_, &signal) != 0 || signal == SIGUSR1) return;
  on_stop_(signal == SIGTERM ? "SIGTERM" : "SIGINT");
  const timespec grace{kStopGrace.count(), 0};
  if (sigtimedwait(&signals_, nullptr, &grace) == SIGUSR1) return;
  ::_exit(kExitKilled);
}

void end_with_parent() {
  const pid_t parent = ::getppid();
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(kExitKilled);  // it ended in between
}

}  // namespace beryl::service
