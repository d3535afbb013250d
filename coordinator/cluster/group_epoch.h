// GroupEpoch: the ranks of one running epoch, the steps in flight on them and the signs of life
// that are due. Used from the driver's thread only.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/cluster/cluster_options.h"
#include "coordinator/cluster/picture_lane.h"
#include "coordinator/cluster/worker_link.h"
#include "coordinator/scheduler/step_plan.h"
#include "parallel/base/expected.h"
#include "parallel/wire/validate.h"

namespace beryl::cluster {

// Why an epoch has to end.
struct EpochFault {
  std::string reason;
  std::chrono::steady_clock::time_point last_sign;  // of the rank at fault
};

class GroupEpoch {
 public:
  using Clock = std::chrono::steady_clock;
  using Links = std::vector<std::shared_ptr<WorkerLink>>;  // [num_ranks]

  GroupEpoch(uint64_t number, Links links, const ClusterOptions& options);

  void send_welcome();
  void send_heartbeats();
  // The pictures that the plan's jobs encode go first, on their own connections.
  void send_plan(const scheduler::StepPlan& plan, std::vector<PictureShipment> pictures);
  // Says why to all ranks and closes. `is_clean`: a goodbye after which workers exit with success.
  void close(const std::string& reason, bool is_clean);

  // The second connection of a rank, not started yet, or why it is refused.
  base::Status attach_bulk(const std::shared_ptr<WorkerLink>& link);
  void on_drained(const WorkerLink& link);

  // A result of `link`, checked against the wire's limits and the order of steps.
  base::Expected<scheduler::RankResult> take_result(const WorkerLink& link,
                                                    const wire::StepResult& result);
  // What is overdue: a heartbeat or a step.
  std::optional<EpochFault> find_fault(Clock::time_point now) const;
  // Forgives silence up to now: it was this process that did not look.
  void excuse_silence(Clock::time_point now);

  bool has(const WorkerLink& link) const;
  bool has_bulk(const WorkerLink& link) const;
  uint64_t number() const { return limits_.epoch; }
  const std::string& launch_id() const { return links_.front()->registration().launch_id(); }
  const Links& links() const { return links_; }
  std::vector<int64_t> pids() const;
  uint64_t num_steps() const { return num_completed_; }
  // How long the oldest step in flight has been running; 0 when nothing runs.
  std::chrono::milliseconds step_age(Clock::time_point now) const;

 private:
  struct StepInFlight {
    uint64_t step = 0;
    Clock::time_point sent;
    std::vector<bool> reported;  // [num_ranks]
  };
  const WorkerLink& slowest_rank() const;

  const ClusterOptions& options_;
  wire::GroupLimits limits_;
  Links links_;
  std::vector<PictureLane> lanes_;  // [num_ranks]
  std::deque<StepInFlight> in_flight_;
  uint64_t last_planned_ = 0;
  uint64_t num_completed_ = 0;
  Clock::time_point last_progress_;
  Clock::time_point excused_;
};

}  // namespace beryl::cluster
