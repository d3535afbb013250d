#include "deploy/launcher/launcher.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "deploy/launcher/banner.h"
#include "deploy/launcher/process_table.h"

namespace beryl::launcher {
namespace {

// Set for every process of this launcher, beside the mark of the single launch.
constexpr const char* kInstanceVariable = "BERYL_LAUNCHER_ID";

TimePoint now() {
  return std::chrono::steady_clock::now();
}

RestartPolicy policy_for(const ServeOptions& options) {
  RestartPolicy policy;
  policy.start_deadline = options.startup_timeout;
  return policy;
}

}  // namespace

Launcher::Launcher(ServeOptions options, Programs programs, RuntimeFolder folder, base::Logger& log)
    : options_(std::move(options)),
      programs_(std::move(programs)),
      folder_(std::move(folder)),
      log_(log),
      instance_(random_id()) {
  sigset_t handled;
  sigemptyset(&handled);
  for (const int signal : {SIGCHLD, SIGINT, SIGTERM, SIGHUP}) sigaddset(&handled, signal);
  sigprocmask(SIG_BLOCK, &handled, nullptr);
  signal_fd_ = signalfd(-1, &handled, SFD_NONBLOCK | SFD_CLOEXEC);
  BERYL_ASSERT(signal_fd_ >= 0, "signalfd: {}", strerror(errno));
  adopt_orphans();
}

Launcher::~Launcher() {
  signal_group(coordinator_, SIGKILL);
  for (const Group& group : groups_) signal_group(group.pid, SIGKILL);
  kill_marked_processes(kInstanceVariable, instance_);
  reap_children();
  if (event_fd_ >= 0) close(event_fd_);
  if (signal_fd_ >= 0) close(signal_fd_);
}

int Launcher::run() {
  if (!start_coordinator()) return EXIT_FAILURE;
  while (phase_ != Phase::kDone) {
    wait_for_events();
    tick();
  }
  return exit_code_;
}

bool Launcher::start_coordinator() {
  const auto secret = folder_.write_secret();
  if (!secret) {
    log_.error("{}", secret.error().message);
    return false;
  }
  secret_file_ = *secret;
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    log_.error("cannot make a pipe: {}", strerror(errno));
    return false;
  }
  event_fd_ = ends[0];
  fcntl(event_fd_, F_SETFL, O_NONBLOCK);
  Command command = coordinator_command(options_, programs_, secret_file_);
  command.environment.emplace_back(kInstanceVariable, instance_);
  log_.debug("{}", to_text(command));
  const auto started = start_process(command, ends[1]);
  close(ends[1]);
  if (!started) {
    log_.error("{}", started.error().message);
    return false;
  }
  coordinator_ = *started;
  deadline_ = now() + kListenDeadline;
  return true;
}

void Launcher::wait_for_events() {
  pollfd watched[2] = {{signal_fd_, POLLIN, 0}, {event_fd_, POLLIN, 0}};
  if (poll(watched, 2, poll_timeout_ms(now())) <= 0) return;
  // Events first: the reason of a loss is worth more than the exit status that follows it.
  if (watched[1].revents != 0) read_events();
  if (watched[0].revents != 0) read_signals();
}

int Launcher::poll_timeout_ms(TimePoint now) const {
  std::optional<TimePoint> next = deadline_;
  if (!worker_address_.empty()) {
    for (const Group& group : groups_) {
      const auto wakeup = group.supervisor.wakeup();
      if (wakeup && (!next || *wakeup < *next)) next = wakeup;
    }
  }
  if (!next) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(*next - now).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 60'000));
}

void Launcher::read_events() {
  char buffer[4096];
  ssize_t count = 0;
  while ((count = read(event_fd_, buffer, sizeof buffer)) > 0) {
    for (const std::string& line : lines_.append({buffer, static_cast<size_t>(count)})) {
      const auto event = parse_event(line);
      if (event) {
        handle_event(*event);
      } else {
        log_.warning("coordinator: {}", event.error().message);
      }
    }
  }
  if (count == 0) {  // the coordinator ends: SIGCHLD follows
    close(event_fd_);
    event_fd_ = kNoDescriptor;
  }
}

void Launcher::handle_event(const CoordinatorEvent& event) {
  if (const auto* listening = std::get_if<ListeningEvent>(&event)) handle_listening(*listening);
  if (const auto* ready = std::get_if<GroupReadyEvent>(&event)) handle_ready(*ready);
  if (const auto* lost = std::get_if<GroupLostEvent>(&event)) handle_lost(*lost);
}

void Launcher::handle_listening(const ListeningEvent& event) {
  if (phase_ != Phase::kStarting) return;
  phase_ = Phase::kServing;
  deadline_.reset();
  http_port_ = event.http_port;
  worker_address_ = fmt::format("127.0.0.1:{}", event.worker_port);
  log_.info("coordinator listens on {}; starting {} group(s) of {} worker(s)",
            url(options_.host, http_port_), options_.groups, options_.workers);
  const TimePoint start = now();
  for (uint32_t i = 0; i < options_.groups; ++i) {
    groups_.push_back(Group{GroupSupervisor(policy_for(options_), start), 0, {}, start});
  }
}

void Launcher::handle_ready(const GroupReadyEvent& event) {
  if (event.group >= groups_.size()) return;
  Group& group = groups_[event.group];
  group.supervisor.on_ready(event.epoch, now());
  if (group.supervisor.state() != GroupState::kReady) return;
  const std::chrono::duration<double> down = now() - group.down_since;
  log_.info("group {} is ready after {:.2f} s (epoch {})", event.group, down.count(), event.epoch);
  if (banner_shown_) return;
  banner_shown_ = true;
  const bool needs_key = !options_.api_keys.empty() || std::getenv(kApiKeyVariable) != nullptr;
  fmt::print("{}", ready_banner(url(options_.host, http_port_), model_name(options_), needs_key));
  std::fflush(stdout);
}

void Launcher::handle_lost(const GroupLostEvent& event) {
  if (event.group >= groups_.size()) return;
  Group& group = groups_[event.group];
  if (group.supervisor.on_lost(event.epoch, event.reason) != GroupAction::kKill) return;
  log_.warning("group {} is lost: {}", event.group, event.reason);
  group.down_since = now();
  kill_job(group);
}

void Launcher::read_signals() {
  signalfd_siginfo info;
  while (read(signal_fd_, &info, sizeof info) == sizeof info) {
    if (info.ssi_signo != SIGCHLD) handle_stop_signal(static_cast<int>(info.ssi_signo));
  }
  for (const ProcessExit& exit : reap_children()) handle_exit(exit);
}

void Launcher::handle_stop_signal(int signal) {
  if (stop_requested_) {
    log_.warning("second signal: ending at once");
    if (exit_code_ == 0) exit_code_ = 128 + signal;
    phase_ = Phase::kDone;  // the destructor kills
    return;
  }
  stop_requested_ = true;
  log_.info("{}: finishing running requests (at most {} s; once more ends at once)",
            strsignal(signal), options_.shutdown_timeout.count());
  begin_drain(0);
}

void Launcher::handle_exit(const ProcessExit& exit) {
  if (exit.pid == coordinator_) return handle_coordinator_exit(exit);
  for (size_t i = 0; i < groups_.size(); ++i) {
    if (groups_[i].pid != exit.pid) continue;
    // Workers leave by themselves when a coordinator that has finished says goodbye.
    const bool is_leaving = !exit.by_signal && exit.code == 0 && phase_ == Phase::kDraining;
    if (is_leaving) groups_[i].supervisor.stop();
    return end_job(i, to_text(exit));
  }
}

void Launcher::handle_coordinator_exit(const ProcessExit& exit) {
  coordinator_ = 0;
  if (phase_ == Phase::kStarting) {
    log_.error("the coordinator ended before it was listening ({}); its reason is above",
               to_text(exit));
    exit_code_ = EXIT_FAILURE;
  } else if (phase_ == Phase::kServing) {
    log_.error("the coordinator ended unexpectedly ({}); stopping the workers", to_text(exit));
    exit_code_ = EXIT_FAILURE;
  } else if (exit.by_signal || exit.code != 0) {
    log_.warning("the coordinator ended with {}", to_text(exit));
  }
  begin_stopping_workers();
}

void Launcher::tick() {
  const TimePoint time = now();
  if (phase_ == Phase::kServing || phase_ == Phase::kDraining) {
    for (size_t i = 0; i < groups_.size(); ++i) {
      const GroupAction action = groups_[i].supervisor.tick(time);
      if (action == GroupAction::kStart) start_job(i);
      if (action == GroupAction::kKill) {
        log_.warning("group {}: {}", i, groups_[i].supervisor.last_reason());
        kill_job(groups_[i]);
      }
    }
  }
  if (!deadline_ || time < *deadline_) return;
  deadline_.reset();
  if (phase_ == Phase::kStarting) {
    log_.error("the coordinator is not listening after {} s", kListenDeadline.count() / 1000);
    exit_code_ = EXIT_FAILURE;
    signal_group(coordinator_, SIGKILL);
  } else if (phase_ == Phase::kDraining) {
    log_.warning("requests did not finish in time: killing the coordinator");
    signal_group(coordinator_, SIGKILL);
  } else if (phase_ == Phase::kStoppingWorkers) {
    for (Group& group : groups_) kill_job(group);
    deadline_ = time + kStopGrace;
  }
}

void Launcher::start_job(size_t index) {
  Group& group = groups_[index];
  group.launch_id = fmt::format("{}-g{}-{}", instance_, index, ++num_launches_);
  const auto folder = folder_.make_job_folder(group.launch_id);
  if (!folder) return end_job(index, folder.error().message);
  Command command = job_command(
      options_, programs_,
      {static_cast<uint32_t>(index), group.launch_id, worker_address_, secret_file_, *folder});
  command.environment.emplace_back(kInstanceVariable, instance_);
  log_.debug("{}", to_text(command));
  const auto started = start_process(command);
  if (!started) return end_job(index, started.error().message);
  group.pid = *started;
}

void Launcher::kill_job(Group& group) {
  if (group.pid == 0) return;
  signal_group(group.pid, SIGKILL);
  kill_marked_processes(kLaunchVariable, group.launch_id);
}

void Launcher::end_job(size_t index, const std::string& reason) {
  Group& group = groups_[index];
  group.pid = 0;
  kill_marked_processes(kLaunchVariable, group.launch_id);
  folder_.remove_job_folder(group.launch_id);
  if (phase_ == Phase::kStoppingWorkers) return finish_when_workers_are_gone();
  if (group.supervisor.state() == GroupState::kReady) group.down_since = now();
  if (group.supervisor.on_exit(reason, now()) == GroupAction::kGaveUp) return give_up(index);
  if (group.supervisor.state() != GroupState::kDue) return;
  log_.warning("group {}: its job ended ({}); next start in {} ms", index, reason,
               group.supervisor.delay().count());
}

void Launcher::give_up(size_t index) {
  log_.error("group {} failed {} times in a row without becoming ready and is given up ({})", index,
             groups_[index].supervisor.num_failed_starts(),
             groups_[index].supervisor.last_reason());
  const bool any_left = std::any_of(groups_.begin(), groups_.end(), [](const Group& group) {
    return group.supervisor.state() != GroupState::kGivenUp;
  });
  if (any_left) return;
  log_.error("no group is left: the reason is in the workers' output above");
  begin_drain(EXIT_FAILURE);
}

void Launcher::begin_drain(int exit_code) {
  if (phase_ != Phase::kStarting && phase_ != Phase::kServing) return;
  exit_code_ = exit_code;
  phase_ = Phase::kDraining;
  deadline_ = now() + options_.shutdown_timeout + kStopGrace;
  signal_group(coordinator_, SIGTERM);
}

void Launcher::begin_stopping_workers() {
  if (phase_ == Phase::kDone) return;
  phase_ = Phase::kStoppingWorkers;
  deadline_ = now() + kStopGrace;
  for (Group& group : groups_) {
    group.supervisor.stop();
    signal_group(group.pid, SIGTERM);
  }
  finish_when_workers_are_gone();
}

void Launcher::finish_when_workers_are_gone() {
  const bool any_left = std::any_of(groups_.begin(), groups_.end(),
                                    [](const Group& group) { return group.pid != 0; });
  if (any_left) return;
  phase_ = Phase::kDone;
  if (exit_code_ == 0) log_.info("stopped");
}

}  // namespace beryl::launcher
