// Runs `beryl serve`: a coordinator and the jobs of its groups, restarted when they die, and none
// of them left behind. One thread; everything arrives through poll(): signals, ended children, the
// coordinator's events and time.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "deploy/launcher/commands.h"
#include "deploy/launcher/coordinator_events.h"
#include "deploy/launcher/group_supervisor.h"
#include "deploy/launcher/options.h"
#include "deploy/launcher/runtime_folder.h"
#include "parallel/base/log.h"

namespace beryl::launcher {

// From the coordinator's start until it accepts connections: it loads the tokenizer before.
constexpr std::chrono::milliseconds kListenDeadline{60'000};
// What the coordinator gets beyond --shutdown-timeout, and workers after their coordinator has
// gone.
constexpr std::chrono::milliseconds kStopGrace{5'000};

class Launcher {
 public:
  Launcher(ServeOptions options, Programs programs, RuntimeFolder folder, base::Logger& log);
  ~Launcher();  // kills and reaps whatever still runs
  Launcher(const Launcher&) = delete;
  Launcher& operator=(const Launcher&) = delete;

  // Until a signal ends it, or it cannot go on. The exit code of the program. Call once, from the
  // main thread of a process without other threads.
  int run();

 private:
  enum class Phase { kStarting, kServing, kDraining, kStoppingWorkers, kDone };
  struct Group {
    GroupSupervisor supervisor;
    pid_t pid = 0;  // of mpirun or of the only rank; 0: no job
    std::string launch_id;
    TimePoint down_since;
  };

  bool start_coordinator();
  void wait_for_events();
  void read_events();
  void handle_event(const CoordinatorEvent& event);
  void handle_listening(const ListeningEvent& event);
  void handle_ready(const GroupReadyEvent& event);
  void handle_lost(const GroupLostEvent& event);
  void read_signals();
  void handle_stop_signal(int signal);
  void handle_exit(const ProcessExit& exit);
  void handle_coordinator_exit(const ProcessExit& exit);
  void tick();

  void start_job(size_t index);
  void kill_job(Group& group);
  void end_job(size_t index, const std::string& reason);
  void give_up(size_t index);
  // Asks the coordinator to finish what runs, then stops the workers, then ends with `exit_code`.
  void begin_drain(int exit_code);
  void begin_stopping_workers();
  void finish_when_workers_are_gone();
  int poll_timeout_ms(TimePoint now) const;

  ServeOptions options_;
  Programs programs_;
  RuntimeFolder folder_;
  base::Logger& log_;
  std::string instance_;  // marks all processes of this launcher
  std::string secret_file_;
  int signal_fd_ = kNoDescriptor;
  int event_fd_ = kNoDescriptor;
  pid_t coordinator_ = 0;
  std::string worker_address_;
  uint16_t http_port_ = 0;
  LineBuffer lines_;
  std::vector<Group> groups_;
  Phase phase_ = Phase::kStarting;
  std::optional<TimePoint> deadline_;  // of the phase
  bool banner_shown_ = false;
  bool stop_requested_ = false;
  int exit_code_ = 0;
  uint64_t num_launches_ = 0;
};

}  // namespace beryl::launcher
