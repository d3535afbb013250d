#include "coordinator/cluster/group_driver.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

#include "coordinator/cluster/plan_codec.h"
#include "parallel/base/assert.h"
#include "parallel/wire/handshake.h"
#include "parallel/wire/limits.h"

namespace beryl::cluster {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;

constexpr milliseconds kTick{50};
constexpr milliseconds kFlushDeadline{1'500};
constexpr double kTokensOfRunningRequest = 64;  // for load(): what a decoding request still costs

int64_t to_us(std::chrono::steady_clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
}

int64_t ms_between(std::chrono::steady_clock::time_point from,
                   std::chrono::steady_clock::time_point to) {
  return std::chrono::duration_cast<milliseconds>(to - from).count();
}

double usage(uint32_t used, uint32_t total) {
  return total == 0 ? 0 : static_cast<double>(used) / total;
}

}  // namespace

GroupDriver::GroupDriver(const GroupDriverParts& parts)
    : parts_(parts),
      work_(asio::make_work_guard(io_)),
      tick_timer_(io_),
      last_tick_(Clock::now()),
      last_heartbeat_(Clock::now()),
      scheduler_(parts.options.scheduler),
      ledger_(parts.metrics) {
  status_.group = parts.group;
  status_.state = assembler_.describe();
  parts_.metrics.healthy.set(0);
  asio::post(io_, [this] { arm_tick(); });
  thread_ = std::thread([this] {
    io_.run();
    finished_.set_value();
  });
}

GroupDriver::~GroupDriver() {
  shut_down("the coordinator ends");
}

void GroupDriver::shut_down(const std::string& reason) {
  if (!thread_.joinable()) return;
  asio::post(io_, [this, reason] {
    ready_.store(false);
    stopping_ = true;
    tick_timer_.cancel();
    for (const auto& link : waiting_) link->close(false);
    if (epoch_) epoch_->close(reason, /*is_clean=*/true);
  });
  work_.reset();
  // The thread ends with the last connection; a rank that does not take its goodbye is cut off.
  if (finished_.get_future().wait_for(kFlushDeadline) != std::future_status::ready) io_.stop();
  thread_.join();
}

// --- From any thread ---

base::Status GroupDriver::submit(scheduler::NewRequest request, RequestLedger::Entry entry) {
  {
    const std::lock_guard lock(mutex_);
    const scheduler::RequestId id = request.id;
    if (auto status = scheduler_.add(std::move(request)); !status) return status;
    ledger_.add(id, std::move(entry));
  }
  wake();
  return base::Status::ok();
}

bool GroupDriver::cancel(scheduler::RequestId request) {
  {
    const std::lock_guard lock(mutex_);
    if (!ledger_.contains(request)) return false;
    scheduler_.cancel(request);
  }
  wake();
  return true;
}

void GroupDriver::cancel_all() {
  {
    const std::lock_guard lock(mutex_);
    for (const scheduler::RequestId id : ledger_.ids()) scheduler_.cancel(id);
  }
  wake();
}

void GroupDriver::add_worker(const ReleasedSocket& socket, wire::Registration registration) {
  asio::post(io_, [this, socket, registration = std::move(registration)]() mutable {
    take_worker(asio::ip::tcp::socket(io_, socket.protocol, socket.descriptor),
                std::move(registration));
  });
}

void GroupDriver::add_bulk(const ReleasedSocket& socket, wire::BulkRegistration registration) {
  asio::post(io_, [this, socket, registration = std::move(registration)] {
    take_bulk(asio::ip::tcp::socket(io_, socket.protocol, socket.descriptor), registration);
  });
}

void GroupDriver::post(std::function<void()> step) {
  asio::post(io_, std::move(step));
}

GroupStatus GroupDriver::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

double GroupDriver::load() const {
  const std::lock_guard lock(mutex_);
  const scheduler::SchedulerStats stats = scheduler_.stats();
  const double num_ranks = static_cast<double>(std::max<size_t>(1, status_.ranks.size()));
  return (static_cast<double>(stats.queued_tokens) +
          kTokensOfRunningRequest * (stats.num_running + stats.num_waiting)) /
         num_ranks;
}

size_t GroupDriver::num_requests() const {
  const std::lock_guard lock(mutex_);
  return ledger_.size();
}

double GroupDriver::drain_time_s() const {
  const std::lock_guard lock(mutex_);
  const double rate = ledger_.finish_rate(Clock::now());
  return rate > 0 ? scheduler_.stats().num_waiting / rate : 0;
}

base::Status GroupDriver::add_moved(MovingRequest& moving) {
  {
    const std::lock_guard lock(mutex_);
    if (auto status = scheduler_.add_moved(moving.request); !status) return status;
    ledger_.add(moving.request.spec.id, std::move(moving.entry));
  }
  wake();
  return base::Status::ok();
}

// --- On the driver's thread ---

std::vector<MovingRequest> GroupDriver::take_requests() {
  const std::lock_guard lock(mutex_);
  if (scheduler_.has_epoch()) return {};
  std::vector<MovingRequest> moving;
  for (scheduler::MovedRequest& request : scheduler_.take_requests()) {
    RequestLedger::Entry entry = ledger_.take(request.spec.id);
    moving.push_back({std::move(request), std::move(entry)});
  }
  return moving;
}

void GroupDriver::take_worker(asio::ip::tcp::socket socket, wire::Registration registration) {
  LinkListener& listener = *this;
  auto link = std::make_shared<WorkerLink>(std::move(socket), std::move(registration), listener,
                                           parts_.options.max_queued_send_bytes);
  const wire::Registration& facts = link->registration();
  if (const auto status = assembler_.add(facts); !status) {
    parts_.log.warning("group {}: refused rank {} of {} (pid {}): {}", parts_.group, facts.rank(),
                       facts.host(), facts.pid(), status.error().message);
    link->send(wire::reject_frame(status.error().message));
    link->close(/*flush=*/true);
    return;
  }
  parts_.log.info("group {}: rank {} of {} registered from {} (pid {}, {})", parts_.group,
                  facts.rank(), facts.num_ranks(), facts.host(), facts.pid(), facts.device());
  drop_displaced_workers();
  waiting_.push_back(link);
  link->start();
  if (assembler_.is_complete()) start_epoch();
}

void GroupDriver::take_bulk(asio::ip::tcp::socket socket,
                            const wire::BulkRegistration& registration) {
  // Named like the rank of its first connection, or after what it claims to be.
  wire::Registration facts;
  facts.set_launch_id(registration.launch_id());
  facts.set_rank(registration.rank());
  base::Status status;
  if (!epoch_ || epoch_->launch_id() != registration.launch_id()) {
    status = base::invalid_argument(
        "registration", fmt::format("launch {} has no epoch", registration.launch_id()));
  } else if (registration.rank() >= epoch_->links().size()) {
    status = base::invalid_argument(
        "registration",
        fmt::format("rank {} of {} ranks", registration.rank(), epoch_->links().size()));
  } else {
    facts = epoch_->links()[registration.rank()]->registration();
  }
  LinkListener& listener = *this;
  const auto link =
      std::make_shared<WorkerLink>(std::move(socket), std::move(facts), listener,
                                   wire::kMaxPictureFrameBytes + wire::kMaxHandshakeFrameBytes);
  if (status) status = epoch_->attach_bulk(link);
  if (status) return;
  parts_.log.warning("group {}: refused the second connection of rank {}: {}", parts_.group,
                     registration.rank(), status.error().message);
  link->send(wire::reject_frame(status.error().message));
  link->close(/*flush=*/true);
}

void GroupDriver::drop_displaced_workers() {
  std::erase_if(waiting_, [this](const auto& link) {
    if (assembler_.is_waiting(link->registration().launch_id())) return false;
    link->send(wire::reject_frame("another launch of this group registered"));
    link->close(/*flush=*/true);
    return true;
  });
}

void GroupDriver::start_epoch() {
  if (epoch_) lose_epoch({"another launch of this group is complete", Clock::now()});
  const std::string launch_id = assembler_.start();
  std::sort(waiting_.begin(), waiting_.end(),
            [](const auto& a, const auto& b) { return a->rank() < b->rank(); });
  auto epoch =
      std::make_unique<GroupEpoch>(++last_epoch_, std::exchange(waiting_, {}), parts_.options);
  const wire::Registration& registration = epoch->links().front()->registration();
  auto status = parts_.observer.on_group_complete(registration.model());
  if (status) {
    const std::lock_guard lock(mutex_);
    status = scheduler_.start_epoch(epoch->number(), to_facts(registration));
  }
  if (!status) {
    parts_.log.error("group {}: {}", parts_.group, status.error().message);
    epoch->close(status.error().message, /*is_clean=*/false);
    assembler_.retire(launch_id);
    return;
  }
  epoch_ = std::move(epoch);
  epoch_->send_welcome();
  const Clock::time_point now = Clock::now();
  const int64_t rebuilt_ms = lost_at_ ? ms_between(*lost_at_, now) : -1;
  parts_.log.info("group {}: epoch {} is ready, {} ranks{}", parts_.group, epoch_->number(),
                  registration.num_ranks(),
                  lost_at_ ? fmt::format(", {} ms after the loss", rebuilt_ms) : "");
  parts_.metrics.epochs.add();
  epochs_started_.fetch_add(1);
  ready_.store(true);
  publish(now);
  parts_.observer.on_group_ready(*this, registration);
  // Last: whoever hears of it may send a request at once.
  parts_.events.group_ready(parts_.group, epoch_->number(), rebuilt_ms);
  pump();
}

void GroupDriver::lose_epoch(const EpochFault& fault) {
  const std::unique_ptr<GroupEpoch> epoch = std::move(epoch_);
  const Clock::time_point now = Clock::now();
  ready_.store(false);
  lost_at_ = now;
  lost_reason_ = fault.reason;
  epoch->close(fault.reason, /*is_clean=*/false);
  assembler_.retire(std::string(epoch->launch_id()));
  uint32_t num_replayed = 0;
  {
    const std::lock_guard lock(mutex_);
    num_replayed = scheduler_.stats().num_running;
    scheduler_.end_epoch();
  }
  const GroupLoss loss{.group = parts_.group,
                       .epoch = epoch->number(),
                       .reason = fault.reason,
                       .pids = epoch->pids(),
                       .detected_ms = ms_between(fault.last_sign, now)};
  parts_.log.error(
      "group {}: epoch {} is lost: {} (noticed after {} ms, {} requests continue later)",
      loss.group, loss.epoch, loss.reason, loss.detected_ms, num_replayed);
  parts_.events.group_lost(loss);
  parts_.metrics.requests_replayed.add(num_replayed);
  publish(now);
  pump();  // requests that were lost too often end here
  parts_.observer.on_group_lost(*this);
}

void GroupDriver::drop_waiting(const std::string& launch_id, const std::string& reason) {
  assembler_.retire(launch_id);
  std::erase_if(waiting_, [&](const auto& link) {
    if (link->registration().launch_id() != launch_id) return false;
    link->send(wire::reject_frame(reason));
    link->close(/*flush=*/true);
    return true;
  });
  parts_.log.warning("group {}: launch {} is over before it was complete: {}", parts_.group,
                     launch_id, reason);
}

void GroupDriver::on_closed(WorkerLink& link, const std::string& reason) {
  const std::string text = fmt::format("rank {} (pid {}): {}", link.rank(),
                                       link.registration().pid(), wire::clean_reason(reason));
  if (epoch_ && (epoch_->has(link) || epoch_->has_bulk(link))) {
    lose_epoch({text, link.last_heard()});
  } else {
    drop_waiting(std::string(link.registration().launch_id()), text);
  }
}

void GroupDriver::on_drained(WorkerLink& link) {
  if (epoch_) epoch_->on_drained(link);
}

void GroupDriver::on_frame(WorkerLink& link, wire::Frame frame) {
  if (frame.has_heartbeat()) return;  // last_heard is enough; steps have their own deadline
  if (frame.has_result() && epoch_ && epoch_->has(link)) {
    on_result(link, frame.result());
    return;
  }
  const std::string reason =
      frame.has_goodbye() ? "it said goodbye: " + wire::clean_reason(frame.goodbye().reason())
                          : "it sent something unexpected";
  link.close(false);
  on_closed(link, reason);
}

void GroupDriver::on_result(WorkerLink& link, const wire::StepResult& wire_result) {
  const auto result = epoch_->take_result(link, wire_result);
  if (!result) {
    lose_epoch({result.error().message, link.last_heard()});
    return;
  }
  parts_.metrics.step_time_s.observe(static_cast<double>(result->duration_us) * 1e-6);
  bool agrees = false;
  {
    const std::lock_guard lock(mutex_);
    agrees = scheduler_.on_result(*result);
  }
  if (!agrees) {
    lose_epoch({fmt::format("rank {} answered step {} with something that was not asked for",
                            link.rank(), result->step),
                link.last_heard()});
    return;
  }
  if (lost_at_ && !result->outputs.empty()) note_first_token(Clock::now());
  wake();
}

void GroupDriver::note_first_token(Clock::time_point now) {
  const int64_t first_token_ms = ms_between(*lost_at_, now);
  lost_at_.reset();
  parts_.log.info("group {}: first token again {} ms after the loss", parts_.group, first_token_ms);
  parts_.events.group_serving(parts_.group, epoch_->number(), first_token_ms);
}

void GroupDriver::wake() {
  if (wake_pending_.exchange(true)) return;
  asio::post(io_, [this] { pump(); });
}

void GroupDriver::pump() {
  wake_pending_.store(false);
  const Clock::time_point now = Clock::now();
  std::vector<scheduler::StepPlan> plans;
  std::vector<std::vector<PictureShipment>> pictures;  // [plans]
  std::vector<RequestLedger::Delivery> deliveries;
  {
    const std::lock_guard lock(mutex_);
    while (auto plan = scheduler_.plan(to_us(now))) {
      // At once: the requests that have them may end with the events below.
      pictures.push_back(pictures_of(*plan));
      plans.push_back(*std::move(plan));
    }
    deliveries = ledger_.route(scheduler_.take_events(), now);
  }
  for (size_t i = 0; i < plans.size(); ++i) {
    const scheduler::StepPlan& plan = plans[i];
    uint64_t num_rows = 0;
    for (const scheduler::RankPlan& rank : plan.ranks) num_rows += rank.num_rows;
    parts_.metrics.iteration_tokens.observe(static_cast<double>(num_rows));
    epoch_->send_plan(plan, std::move(pictures[i]));
  }
  for (const auto& [sink, event] : deliveries) (*sink)(event);
}

std::vector<PictureShipment> GroupDriver::pictures_of(const scheduler::StepPlan& plan) const {
  std::vector<PictureShipment> pictures;
  for (const scheduler::FeatureJob& job : plan.feature_jobs) {
    if (!job.encode) continue;
    // A rank encodes a picture once in a step, wherever its features go.
    const bool is_sent = std::any_of(pictures.begin(), pictures.end(), [&](const auto& sent) {
      return sent.rank == job.source && sent.key == job.key;
    });
    if (is_sent) continue;
    SharedImage image = ledger_.picture(job.key);
    BERYL_ASSERT(image != nullptr, "step {} encodes a picture that no request has", plan.step);
    pictures.push_back({job.source, job.key, std::move(image)});
  }
  return pictures;
}

void GroupDriver::arm_tick() {
  tick_timer_.expires_after(kTick);
  tick_timer_.async_wait([this](boost::system::error_code error) {
    if (error || stopping_) return;
    tick();
    arm_tick();
  });
}

void GroupDriver::tick() {
  const Clock::time_point now = Clock::now();
  // After a stop of this whole process, what the workers sent lies unread in the sockets.
  if (epoch_ && now - last_tick_ > parts_.options.heartbeat_deadline / 2) {
    epoch_->excuse_silence(now);
  }
  last_tick_ = now;
  if (epoch_) {
    if (const auto fault = epoch_->find_fault(now)) lose_epoch(*fault);
  }
  if (now - last_heartbeat_ >= parts_.options.heartbeat_interval) {
    last_heartbeat_ = now;
    if (epoch_) epoch_->send_heartbeats();
    wire::Frame frame;
    frame.mutable_heartbeat()->set_epoch(0);
    for (const auto& link : waiting_) link->send(frame);
  }
  check_waiting(now);
  publish(now);
  wake();  // deadlines of requests
}

void GroupDriver::check_waiting(Clock::time_point now) {
  const auto silent = std::find_if(waiting_.begin(), waiting_.end(), [&](const auto& link) {
    return now - link->last_heard() > wire::kWaitingHeartbeatDeadline;
  });
  if (silent == waiting_.end()) return;
  const std::shared_ptr<WorkerLink> link = *silent;
  link->close(false);
  on_closed(*link, "silent while the group was waiting");
}

void GroupDriver::publish(Clock::time_point now) {
  GroupStatus status;
  status.group = parts_.group;
  status.state =
      lost_reason_.empty() || !waiting_.empty() ? assembler_.describe() : "lost: " + lost_reason_;
  if (epoch_) {
    status.epoch = epoch_->number();
    status.state = "ready";
    status.steps = epoch_->num_steps();
    for (const auto& link : epoch_->links()) {
      const wire::Registration& facts = link->registration();
      status.ranks.push_back({.rank = facts.rank(),
                              .host = facts.host(),
                              .pid = facts.pid(),
                              .device = facts.device(),
                              .last_heartbeat_ms = ms_between(link->last_heard(), now)});
    }
    const bool is_slow = epoch_->step_age(now) > parts_.options.slow_step;
    if (is_slow) status.state = "slow: a step is overdue";
    ready_.store(!is_slow);
  }
  const std::lock_guard lock(mutex_);
  const scheduler::SchedulerStats stats = scheduler_.stats();
  status.num_waiting = stats.num_waiting;
  status.num_running = stats.num_running;
  status.kv_usage = usage(stats.pages_used, stats.pages_total);
  parts_.metrics.num_requests_waiting.set(stats.num_waiting);
  parts_.metrics.num_requests_running.set(stats.num_running);
  parts_.metrics.kv_cache_usage.set(status.kv_usage);
  parts_.metrics.healthy.set(ready_.load() ? 1 : 0);
  parts_.metrics.num_preemptions.add(stats.num_preemptions - counted_preemptions_);
  counted_preemptions_ = stats.num_preemptions;
  status_ = std::move(status);
}

}  // namespace beryl::cluster
