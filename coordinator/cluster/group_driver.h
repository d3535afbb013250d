// GroupDriver: one group and its thread. It owns the scheduler, turns its plans into messages and
// results back into events, watches over the ranks, and takes the group from epoch to epoch while
// the requests stay.
#pragma once

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "coordinator/cluster/cluster_options.h"
#include "coordinator/cluster/engine.h"
#include "coordinator/cluster/event_log.h"
#include "coordinator/cluster/group_assembler.h"
#include "coordinator/cluster/group_epoch.h"
#include "coordinator/cluster/request_ledger.h"
#include "coordinator/cluster/worker_link.h"
#include "coordinator/metrics/server_metrics.h"
#include "coordinator/scheduler/scheduler.h"
#include "parallel/base/log.h"

namespace beryl::cluster {

class GroupDriver;

// Hears of epochs, on the driver's thread and without its lock.
class GroupObserver {
 public:
  virtual ~GroupObserver() = default;
  // Before a complete launch becomes an epoch; an error refuses it.
  virtual base::Status on_group_complete(const wire::ModelFacts& model) = 0;
  virtual void on_group_ready(GroupDriver& driver, const wire::Registration& facts) = 0;
  virtual void on_group_lost(GroupDriver& driver) = 0;
};

struct GroupDriverParts {
  uint32_t group = 0;
  const ClusterOptions& options;
  base::Logger& log;
  EventLog& events;
  metrics::EngineMetrics& metrics;
  GroupObserver& observer;
};

// A request between two groups.
struct MovingRequest {
  scheduler::MovedRequest request;
  RequestLedger::Entry entry;
};

// A connected socket on its way to the driver's context.
struct ReleasedSocket {
  boost::asio::ip::tcp protocol;
  int descriptor = -1;
};

class GroupDriver final : private LinkListener {
 public:
  using Clock = std::chrono::steady_clock;

  explicit GroupDriver(const GroupDriverParts& parts);
  ~GroupDriver() override;  // closes all connections
  GroupDriver(const GroupDriver&) = delete;
  GroupDriver& operator=(const GroupDriver&) = delete;

  // --- From any thread ---
  base::Status submit(scheduler::NewRequest request, RequestLedger::Entry entry);
  // False: not one of this group's.
  bool cancel(scheduler::RequestId request);
  void cancel_all();
  // A registered worker's socket, released from the context that accepted it.
  void add_worker(const ReleasedSocket& socket, wire::Registration registration);
  // The same of a worker's second connection.
  void add_bulk(const ReleasedSocket& socket, wire::BulkRegistration registration);
  // Runs `step` on the driver's thread, after the deliveries that are under way.
  void post(std::function<void()> step);
  // Says goodbye to the workers and ends the thread.
  void shut_down(const std::string& reason);

  GroupStatus status() const;
  bool is_ready() const { return ready_.load(); }
  bool was_ready() const { return epochs_started_.load() > 0; }
  uint32_t group() const { return parts_.group; }
  // Work that is here, in tokens per rank: smaller is better for a new request.
  double load() const;
  size_t num_requests() const;
  // Of the waiting queue, at the rate at which requests finish.
  double drain_time_s() const;

  // --- On the driver's thread ---
  void deliver_pending() { pump(); }
  // All requests, to continue elsewhere. Nothing while an epoch runs.
  std::vector<MovingRequest> take_requests();
  // From any thread. The request stays in `moving` if this group cannot hold it.
  base::Status add_moved(MovingRequest& moving);

 private:
  void on_frame(WorkerLink& link, wire::Frame frame) override;
  void on_closed(WorkerLink& link, const std::string& reason) override;
  void on_drained(WorkerLink& link) override;
  void on_result(WorkerLink& link, const wire::StepResult& result);

  void take_worker(boost::asio::ip::tcp::socket socket, wire::Registration registration);
  void take_bulk(boost::asio::ip::tcp::socket socket, const wire::BulkRegistration& registration);
  void drop_displaced_workers();
  void start_epoch();
  void lose_epoch(const EpochFault& fault);
  void drop_waiting(const std::string& launch_id, const std::string& reason);

  void wake();
  void pump();
  // What a plan needs sent ahead. Under mutex_.
  std::vector<PictureShipment> pictures_of(const scheduler::StepPlan& plan) const;
  void tick();
  void arm_tick();
  void check_waiting(Clock::time_point now);
  void publish(Clock::time_point now);
  void note_first_token(Clock::time_point now);

  GroupDriverParts parts_;
  boost::asio::io_context io_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  boost::asio::steady_timer tick_timer_;
  std::promise<void> finished_;  // the thread has left the io_context
  std::thread thread_;

  // Driver's thread only.
  GroupAssembler assembler_;
  std::vector<std::shared_ptr<WorkerLink>> waiting_;  // registered, their group not complete
  std::unique_ptr<GroupEpoch> epoch_;
  uint64_t last_epoch_ = 0;
  std::optional<Clock::time_point> lost_at_;  // until the first token after it
  bool stopping_ = false;
  Clock::time_point last_tick_;
  Clock::time_point last_heartbeat_;
  std::string lost_reason_;

  std::atomic<bool> ready_{false};
  std::atomic<uint32_t> epochs_started_{0};
  std::atomic<bool> wake_pending_{false};

  mutable std::mutex mutex_;
  scheduler::Scheduler scheduler_;    // guarded by mutex_
  RequestLedger ledger_;              // guarded by mutex_
  GroupStatus status_;                // guarded by mutex_, renewed by tick()
  uint64_t counted_preemptions_ = 0;  // driver's thread
};

}  // namespace beryl::cluster
