#include "coordinator/cluster/group_epoch.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "coordinator/cluster/plan_codec.h"
#include "parallel/wire/handshake.h"

namespace beryl::cluster {
namespace {

using std::chrono::milliseconds;

base::Error contradiction(std::string message) {
  return base::Error{base::ErrorCode::kInvalidArgument, std::move(message), "result", {}};
}

milliseconds to_ms(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration_cast<milliseconds>(duration);
}

}  // namespace

GroupEpoch::GroupEpoch(uint64_t number, Links links, const ClusterOptions& options)
    : options_(options), links_(std::move(links)), last_progress_(Clock::now()) {
  const wire::Registration& registration = links_.front()->registration();
  limits_.epoch = number;
  limits_.num_ranks = registration.num_ranks();
  limits_.model = registration.model();
  limits_.cache = registration.cache();
  lanes_.assign(links_.size(), PictureLane(number));
}

void GroupEpoch::send_welcome() {
  wire::Frame frame;
  wire::Welcome& welcome = *frame.mutable_welcome();
  welcome.set_epoch(number());
  welcome.set_heartbeat_interval_ms(static_cast<uint32_t>(options_.heartbeat_interval.count()));
  welcome.set_heartbeat_deadline_ms(static_cast<uint32_t>(options_.heartbeat_deadline.count()));
  welcome.set_step_deadline_ms(static_cast<uint32_t>(options_.step_deadline.count()));
  for (const auto& link : links_) link->send(frame);
}

void GroupEpoch::send_heartbeats() {
  wire::Frame frame;
  frame.mutable_heartbeat()->set_epoch(number());
  frame.mutable_heartbeat()->set_last_step(last_planned_);
  for (const auto& link : links_) link->send(frame);
}

void GroupEpoch::send_plan(const scheduler::StepPlan& plan, std::vector<PictureShipment> pictures) {
  for (PictureShipment& picture : pictures) {
    lanes_[picture.rank].send(picture.key, std::move(picture.image));
  }
  if (in_flight_.empty()) last_progress_ = Clock::now();
  last_planned_ = plan.step;
  in_flight_.push_back({plan.step, Clock::now(), std::vector<bool>(links_.size())});
  wire::Frame frame;
  for (uint32_t rank = 0; rank < links_.size(); ++rank) {
    *frame.mutable_plan() = encode_plan(plan, rank);
    links_[rank]->send(frame);
  }
}

void GroupEpoch::close(const std::string& reason, bool is_clean) {
  wire::Frame frame;
  if (is_clean) {
    frame.mutable_goodbye()->set_reason(wire::clean_reason(reason));
  } else {
    frame = wire::reject_frame(reason);
  }
  for (const auto& link : links_) {
    link->send(frame);
    link->close(/*flush=*/true);
  }
  for (PictureLane& lane : lanes_) lane.close(frame);
}

base::Status GroupEpoch::attach_bulk(const std::shared_ptr<WorkerLink>& link) {
  const uint32_t rank = link->rank();
  if (limits_.cache.num_feature_tokens() == 0) {
    return base::invalid_argument("registration", "this group takes no pictures");
  }
  if (!lanes_[rank].attach(link)) {
    return base::invalid_argument("registration",
                                  fmt::format("rank {} has its second connection already", rank));
  }
  return base::Status::ok();
}

void GroupEpoch::on_drained(const WorkerLink& link) {
  if (has_bulk(link)) lanes_[link.rank()].on_drained();
}

base::Expected<scheduler::RankResult> GroupEpoch::take_result(const WorkerLink& link,
                                                              const wire::StepResult& result) {
  if (auto status = wire::validate(result, limits_); !status) return status.error();
  if (!result.error().empty()) {
    return contradiction(
        fmt::format("rank {} failed: {}", link.rank(), wire::clean_reason(result.error())));
  }
  const auto step = std::find_if(in_flight_.begin(), in_flight_.end(),
                                 [&](const auto& entry) { return entry.step == result.step(); });
  if (step == in_flight_.end() || step->reported[link.rank()]) {
    return contradiction(
        fmt::format("rank {} reported step {} without being asked", link.rank(), result.step()));
  }
  step->reported[link.rank()] = true;
  const auto is_complete = [](const StepInFlight& entry) {
    return std::all_of(entry.reported.begin(), entry.reported.end(),
                       [](bool done) { return done; });
  };
  while (!in_flight_.empty() && is_complete(in_flight_.front())) {
    in_flight_.pop_front();
    ++num_completed_;
    last_progress_ = Clock::now();
  }
  return decode_result(result, link.rank());
}

const WorkerLink& GroupEpoch::slowest_rank() const {
  const std::vector<bool>& reported = in_flight_.front().reported;
  const auto missing = std::find(reported.begin(), reported.end(), false);
  return *links_[static_cast<size_t>(missing - reported.begin())];
}

std::optional<EpochFault> GroupEpoch::find_fault(Clock::time_point now) const {
  for (const auto& link : links_) {
    const Clock::time_point heard = std::max(link->last_heard(), excused_);
    if (now - heard > options_.heartbeat_deadline) {
      return EpochFault{fmt::format("rank {} is silent for {} ms", link->rank(),
                                    to_ms(now - link->last_heard()).count()),
                        link->last_heard()};
    }
  }
  if (!in_flight_.empty() && now - std::max(last_progress_, excused_) > options_.step_deadline) {
    return EpochFault{
        fmt::format("rank {} has not finished step {} in {} ms", slowest_rank().rank(),
                    in_flight_.front().step, to_ms(now - last_progress_).count()),
        last_progress_};
  }
  return std::nullopt;
}

void GroupEpoch::excuse_silence(Clock::time_point now) {
  excused_ = now;
}

bool GroupEpoch::has(const WorkerLink& link) const {
  return link.rank() < links_.size() && links_[link.rank()].get() == &link;
}

bool GroupEpoch::has_bulk(const WorkerLink& link) const {
  return link.rank() < lanes_.size() && lanes_[link.rank()].has(link);
}

std::vector<int64_t> GroupEpoch::pids() const {
  std::vector<int64_t> pids;
  for (const auto& link : links_) pids.push_back(link->registration().pid());
  return pids;
}

milliseconds GroupEpoch::step_age(Clock::time_point now) const {
  if (in_flight_.empty()) return milliseconds{0};
  return to_ms(now - std::max(last_progress_, in_flight_.front().sent));
}

}  // namespace beryl::cluster
