#include "coordinator/cluster/group_assembler.h"

#include <fmt/format.h>

#include <algorithm>

namespace beryl::cluster {
namespace {

base::Error refused(std::string reason) {
  return base::Error{base::ErrorCode::kInvalidArgument, std::move(reason), "registration", {}};
}

// Ranks of a group must hold the same model and have caches of one size.
base::Status check_agreement(const wire::Registration& first, const wire::Registration& other) {
  if (first.num_ranks() != other.num_ranks()) {
    return refused(fmt::format("rank {} says {} ranks, rank {} says {}", other.rank(),
                               other.num_ranks(), first.rank(), first.num_ranks()));
  }
  if (first.model().SerializeAsString() != other.model().SerializeAsString()) {
    return refused(
        fmt::format("rank {} holds another model than rank {} (files, --load-format, "
                    "--seed and --max-model-len must be equal)",
                    other.rank(), first.rank()));
  }
  if (first.cache().SerializeAsString() != other.cache().SerializeAsString()) {
    return refused(
        fmt::format("rank {} has another cache size than rank {}", other.rank(), first.rank()));
  }
  return base::Status::ok();
}

}  // namespace

base::Status GroupAssembler::add(const wire::Registration& registration) {
  const std::string& id = registration.launch_id();
  if (is_retired(id)) {
    return refused(fmt::format("launch {} is over; start all its ranks anew", id));
  }
  if (is_running(id)) {
    return refused(fmt::format("launch {} is complete, rank {} is there", id, registration.rank()));
  }
  if (assembling_ && !is_waiting(id)) retire(std::string(assembling_->launch_id));
  if (!assembling_) {
    assembling_ = Launch{.launch_id = id, .ranks = {}, .num_ranks = registration.num_ranks()};
  }
  auto& ranks = assembling_->ranks;
  if (ranks.contains(registration.rank())) {
    return refused(fmt::format("rank {} of launch {} is there already", registration.rank(), id));
  }
  if (!ranks.empty()) {
    if (auto status = check_agreement(ranks.begin()->second, registration); !status) return status;
  }
  ranks.emplace(registration.rank(), registration);
  return base::Status::ok();
}

bool GroupAssembler::is_complete() const {
  return assembling_ && assembling_->ranks.size() == assembling_->num_ranks;
}

std::string GroupAssembler::start() {
  if (!running_.empty()) retire(std::string(running_));
  running_ = assembling_->launch_id;
  assembling_.reset();
  return running_;
}

void GroupAssembler::retire(const std::string& launch_id) {
  if (is_waiting(launch_id)) assembling_.reset();
  if (is_running(launch_id)) running_.clear();
  if (is_retired(launch_id)) return;
  retired_.push_back(launch_id);
  if (retired_.size() > kMaxRetired) retired_.pop_front();
}

bool GroupAssembler::is_retired(const std::string& launch_id) const {
  return std::find(retired_.begin(), retired_.end(), launch_id) != retired_.end();
}

std::string GroupAssembler::describe() const {
  if (!assembling_) return "waiting for workers";
  return fmt::format("{} of {} ranks are there", assembling_->ranks.size(), assembling_->num_ranks);
}

}  // namespace beryl::cluster
