// Drives the real Scheduler through a Scenario in virtual time: arrivals, cancels, deadlines, ranks
// that finish steps in random order, lost groups. Equal seeds give equal runs.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <queue>
#include <string>
#include <vector>

#include "coordinator/scheduler/scheduler.h"
#include "tests/coordinator/scheduler/client_book.h"
#include "tests/coordinator/scheduler/plan_checker.h"
#include "tests/coordinator/scheduler/scenario.h"
#include "tests/coordinator/scheduler/scheduler_probe.h"

namespace beryl::scheduler::sim {

struct SimReport {
  std::string failure;  // the first thing that was wrong, with the seed; empty if all is well
  uint64_t num_requests = 0;
  uint64_t num_steps = 0;
  uint64_t num_padded_steps = 0;
  uint64_t num_preemptions = 0;
  uint64_t num_lost_epochs = 0;
  uint64_t num_tokens = 0;
  uint64_t feature_hits = 0;
  uint64_t feature_misses = 0;
  uint64_t feature_moves = 0;
  uint64_t num_ended[5] = {};  // by FinishReason
  int64_t virtual_us = 0;
};

class Simulator {
 public:
  explicit Simulator(const Scenario& scenario);
  SimReport run();

 private:
  enum class Kind { kArrival, kCancel, kRankDone, kLoss, kReturn, kDeadline };
  struct Event {
    int64_t time_us;
    uint64_t sequence;  // equal times: first come, first served
    Kind kind;
    uint64_t subject;  // request, rank or epoch
    uint64_t epoch;
    bool operator>(const Event& other) const {
      return time_us != other.time_us ? time_us > other.time_us : sequence > other.sequence;
    }
  };

  void schedule(int64_t time_us, Kind kind, uint64_t subject = 0);
  void handle(const Event& event);
  void arrive();
  void submit(NewRequest request);
  NewRequest draw_request();
  std::vector<PictureSpan> draw_pictures(const NewRequest& request);
  void rank_done(const Event& event);
  void lose_group();
  void start_group();
  void pump();
  void dispatch(StepPlan plan);
  void check_features_kept();
  void take_events();
  void check_end();
  void fail(const std::string& what);
  int64_t exponential(double mean_us);
  bool faults_go_on() const { return num_drawn_ < scenario_.num_requests; }

  Scenario scenario_;
  GroupFacts facts_;  // of the running epoch
  Random random_;
  Scheduler scheduler_;
  FaultPlanter planter_;
  ClientBook clients_;
  std::unique_ptr<ModelGroup> group_;
  std::vector<int64_t> rank_free_us_;              // [num_ranks]
  std::vector<std::deque<int64_t>> durations_us_;  // [num_ranks][steps in flight]
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  uint64_t sequence_ = 0;
  uint64_t epoch_ = 0;
  int64_t now_us_ = 0;
  int64_t wake_us_ = 0;
  int64_t must_end_by_us_ = 0;
  uint32_t num_drawn_ = 0;
  uint64_t work_tokens_ = 0;
  SimReport report_;
};

}  // namespace beryl::scheduler::sim
