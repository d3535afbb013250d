#include "worker/engine/rank_feature_jobs.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace beryl::engine {

using base::Expected;
using base::Status;

namespace {

base::Error contradiction(std::string message) {
  return base::invalid_argument("plan", std::move(message));
}

bool travels(const wire::FeatureJob& job) {
  return job.source() != job.destination();
}

// It sends what a job of this round brings.
bool depends_on(const wire::FeatureJob& job, std::span<const wire::FeatureJob* const> round) {
  if (job.encode()) return false;
  return std::any_of(round.begin(), round.end(), [&](const wire::FeatureJob* earlier) {
    return earlier->destination() == job.source() &&
           picture_key(earlier->key()) == picture_key(job.key());
  });
}

}  // namespace

bool RankFeatureJobs::is_source(const Job& job) const {
  return job.source() == static_cast<uint32_t>(parts_.communicator.rank());
}

bool RankFeatureJobs::is_destination(const Job& job) const {
  return job.destination() == static_cast<uint32_t>(parts_.communicator.rank());
}

size_t RankFeatureJobs::bytes_of(const Job& job) const {
  return size_t{job.num_tokens()} * static_cast<size_t>(parts_.hidden_size) * sizeof(float);
}

model::Features RankFeatureJobs::copy_of(const kernels::TensorView& rows) const {
  model::Features features(parts_.ops, rows.shape[0], parts_.hidden_size);
  parts_.ops.copy(features.view().data, rows.data, features.view().num_bytes());
  return features;
}

model::Features RankFeatureJobs::from_host(const void* rows, int64_t num_tokens) const {
  model::Features features(parts_.ops, num_tokens, parts_.hidden_size);
  parts_.ops.upload(features.view().data, rows, features.view().num_bytes());
  return features;
}

const model::Features* RankFeatureJobs::find(const Job& job, const FeatureStore& store) const {
  const PictureKey key = picture_key(job.key());
  if (!job.encode()) return store.find(key);
  const auto found = made_.find(key);
  return found == made_.end() ? nullptr : &found->second;
}

Status RankFeatureJobs::run(const wire::StepPlan& plan, FeatureStore& store) {
  const auto num_ranks = static_cast<uint32_t>(parts_.communicator.size());
  for (const Job& job : plan.feature_jobs()) {
    if (job.source() >= num_ranks || job.destination() >= num_ranks) {
      return contradiction(fmt::format("feature job from rank {} to rank {} of {}", job.source(),
                                       job.destination(), num_ranks));
    }
  }
  made_.clear();
  if (auto status = encode(plan); !status) return status;
  std::vector<const Job*> round;
  for (const Job& job : plan.feature_jobs()) {
    if (depends_on(job, round)) {
      if (auto status = do_round(round, store); !status) return status;
      round.clear();
    }
    round.push_back(&job);
  }
  auto status = do_round(round, store);
  made_.clear();
  return status;
}

Status RankFeatureJobs::encode(const wire::StepPlan& plan) {
  std::vector<PictureKey> keys;
  std::vector<Picture> pictures;
  for (const Job& job : plan.feature_jobs()) {
    if (!job.encode() || !is_source(job)) continue;
    const PictureKey key = picture_key(job.key());
    // Once, wherever its features go.
    if (std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
    auto picture = take(job);
    if (!picture) return picture.error();
    keys.push_back(key);
    pictures.push_back(*std::move(picture));
  }
  if (pictures.empty()) return Status::ok();
  std::vector<kernels::ImageView> images;
  for (const Picture& picture : pictures) {
    images.push_back(
        {reinterpret_cast<const uint8_t*>(picture.pixels.data()), picture.height, picture.width});
  }
  const auto features = parts_.tower.encode(images);
  if (!features) return features.error();
  // Each on its own, so that each can be dropped.
  int64_t first = 0;
  for (size_t i = 0; i < keys.size(); ++i) {
    const int64_t count = *parts_.tower.num_soft_tokens(images[i].height, images[i].width);
    made_.emplace(keys[i], copy_of(features->view().rows(first, count)));
    first += count;
  }
  return Status::ok();
}

Expected<Picture> RankFeatureJobs::take(const Job& job) {
  auto picture = parts_.pictures.take(picture_key(job.key()));
  if (!picture) return picture.error();
  const auto num_tokens = parts_.tower.num_soft_tokens(picture->height, picture->width);
  if (!num_tokens) return num_tokens.error();
  const size_t num_bytes =
      size_t{3} * static_cast<size_t>(picture->height) * static_cast<size_t>(picture->width);
  if (static_cast<uint32_t>(*num_tokens) != job.num_tokens() ||
      picture->pixels.size() != num_bytes) {
    return contradiction(fmt::format("picture of {} x {} pixels and {} bytes for {} soft tokens",
                                     picture->width, picture->height, picture->pixels.size(),
                                     job.num_tokens()));
  }
  return picture;
}

Status RankFeatureJobs::do_round(Round jobs, FeatureStore& store) {
  if (auto status = check_round(jobs, store); !status) return status;
  if (std::any_of(jobs.begin(), jobs.end(), [](const Job* job) { return travels(*job); })) {
    if (auto status = exchange(jobs, store); !status) return status;
  }
  for (const Job* job : jobs) {
    if (travels(*job) || !is_destination(*job)) continue;
    if (!job->encode()) return contradiction("a feature job that leaves a picture where it is");
    const model::Features& made = made_.at(picture_key(job->key()));
    auto status = store.put(picture_key(job->key()), copy_of(made.view()));
    if (!status) return status;
  }
  return Status::ok();
}

// Before memory is taken and anything travels: this rank has what it sends and room for the rest.
Status RankFeatureJobs::check_round(Round jobs, const FeatureStore& store) const {
  int64_t num_new = 0;
  for (const Job* job : jobs) {
    if (is_destination(*job)) num_new += job->num_tokens();
    if (!is_source(*job)) continue;
    const model::Features* features = find(*job, store);
    if (features == nullptr || features->num_tokens() != job->num_tokens()) {
      return contradiction(fmt::format("feature job of {} soft tokens that rank {} does not have",
                                       job->num_tokens(), parts_.communicator.rank()));
    }
  }
  return store.check_room(num_new);
}

// All ranks know all jobs, so no sizes are exchanged. Between two ranks in the order of jobs.
Status RankFeatureJobs::exchange(Round jobs, FeatureStore& store) {
  const auto num_ranks = static_cast<size_t>(parts_.communicator.size());
  std::vector<size_t> send_offsets(num_ranks + 1);
  std::vector<size_t> recv_offsets(num_ranks + 1);
  for (const Job* job : jobs) {
    if (!travels(*job)) continue;
    if (is_source(*job)) send_offsets[job->destination() + 1] += bytes_of(*job);
    if (is_destination(*job)) recv_offsets[job->source() + 1] += bytes_of(*job);
  }
  for (size_t peer = 0; peer < num_ranks; ++peer) {
    send_offsets[peer + 1] += send_offsets[peer];
    recv_offsets[peer + 1] += recv_offsets[peer];
  }
  std::vector<std::byte> send(send_offsets.back());
  std::vector<std::byte> recv(recv_offsets.back());
  std::vector<size_t> next = send_offsets;
  for (const Job* job : jobs) {
    if (!travels(*job) || !is_source(*job)) continue;
    parts_.ops.download(send.data() + next[job->destination()], find(*job, store)->view().data,
                        bytes_of(*job));
    next[job->destination()] += bytes_of(*job);
  }
  auto pending = parts_.communicator.start_all_to_all_v({.send = send.data(),
                                                         .send_offsets = send_offsets,
                                                         .recv = recv.data(),
                                                         .recv_offsets = recv_offsets});
  if (!pending) return pending.error();
  if (const Status status = (*pending)->wait(); !status) return status;
  next = recv_offsets;
  for (const Job* job : jobs) {
    if (!travels(*job) || !is_destination(*job)) continue;
    auto status = store.put(picture_key(job->key()),
                            from_host(recv.data() + next[job->source()], job->num_tokens()));
    if (!status) return status;
    next[job->source()] += bytes_of(*job);
  }
  return Status::ok();
}

}  // namespace beryl::engine
