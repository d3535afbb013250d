#include "coordinator/scheduler/feature_planner.h"

#include <algorithm>
#include <tuple>

#include "coordinator/scheduler/vision_cost.h"

namespace beryl::scheduler {

FeaturePlanner::FeaturePlanner(GroupState& state, uint64_t step, StepPlan& plan)
    : state_(state), step_(step), plan_(plan) {}

void FeaturePlanner::start(bool is_decoding) {
  const SchedulerConfig& config = state_.config;
  max_patches_ =
      is_decoding ? config.max_encode_patches_per_step
                  : std::max(config.max_encode_patches_per_step, config.max_encode_patches_alone);
  patches_.assign(state_.ranks.size(), 0);
  load_.assign(state_.ranks.size(), 0);
}

bool FeaturePlanner::has_capacity(uint32_t rank, uint32_t num_patches) const {
  // A single picture may be larger than the limit.
  return patches_[rank] == 0 || uint64_t{patches_[rank]} + num_patches <= max_patches_;
}

std::optional<uint32_t> FeaturePlanner::choose_encoder(uint32_t home,
                                                       const PictureSpan& span) const {
  // The least loaded in this step; among equals the one that encoded least in all.
  const auto cost_of = [&](uint32_t rank) {
    const uint64_t way = rank == home ? 0 : move_flop(span.num_tokens);
    return std::tuple{load_[rank] + way, state_.encoded_flop[rank]};
  };
  std::optional<uint32_t> best;
  for (uint32_t rank = 0; rank < load_.size(); ++rank) {
    if (!has_capacity(rank, span.num_patches)) continue;
    if (!best || cost_of(rank) < cost_of(*best)) best = rank;
  }
  return best;
}

uint32_t FeaturePlanner::choose_keeper(const std::vector<uint32_t>& keepers) const {
  return *std::min_element(keepers.begin(), keepers.end(), [&](uint32_t a, uint32_t b) {
    return std::tuple{load_[a], a} < std::tuple{load_[b], b};
  });
}

bool FeaturePlanner::can_provide(uint32_t rank, const PictureSpan& span, bool take_pinned) const {
  const FeatureStore& features = state_.features;
  if (features.keeps(rank, span.key)) return true;
  if (features.keepers(span.key).empty() && !choose_encoder(rank, span)) return false;
  return take_pinned ? features.could_make_room_unpinned(rank, span.num_tokens, step_)
                     : features.could_make_room(rank, span.num_tokens, step_);
}

uint32_t FeaturePlanner::provide(RequestState& request, uint32_t num_rows) {
  const Placement& placement = request.placement;
  const std::vector<PictureSpan>& pictures = request.spec.pictures;
  const uint32_t end = placement.num_planned + num_rows;
  for (size_t idx = placement.next_span; idx < pictures.size() && pictures[idx].start < end;
       ++idx) {
    const bool is_pinned = idx < placement.pinned_end;
    if (!is_pinned && !bring(request, pictures[idx], /*is_needed_now=*/true)) {
      return pictures[idx].start - placement.num_planned;
    }
    state_.features.use(placement.rank, pictures[idx].key, step_);
  }
  return num_rows;
}

void FeaturePlanner::look_ahead(const std::vector<RequestState*>& requests) {
  // Not more than makes all ranks equally busy: the step must not become longer for it.
  const uint32_t busiest = *std::max_element(patches_.begin(), patches_.end());
  max_patches_ =
      std::min(max_patches_, std::max(busiest, state_.config.max_encode_patches_per_step));
  std::vector<bool> is_closed(patches_.size(), false);
  for (RequestState* request : requests) {
    Placement& placement = request->placement;
    if (request->phase != Phase::kRunning || is_closed[placement.rank]) continue;
    const std::vector<PictureSpan>& pictures = request->spec.pictures;
    while (placement.pinned_end < pictures.size()) {
      const PictureSpan& span = pictures[placement.pinned_end];
      if (!bring(*request, span, /*is_needed_now=*/false)) {
        // What is free there later goes to this request first, not to newer ones.
        is_closed[placement.rank] = true;
        break;
      }
      state_.features.pin(placement.rank, span.key);
      ++placement.pinned_end;
    }
  }
}

bool FeaturePlanner::bring(RequestState& request, const PictureSpan& span, bool is_needed_now) {
  const uint32_t home = request.placement.rank;
  if (state_.features.keeps(home, span.key)) {
    ++state_.vision_counts.hits;
    return true;
  }
  const std::vector<uint32_t>& keepers = state_.features.keepers(span.key);
  const bool encode = keepers.empty();
  const std::optional<uint32_t> source =
      encode ? choose_encoder(home, span) : std::optional{choose_keeper(keepers)};
  if (!source || !make_room(request, span.num_tokens, is_needed_now)) return false;
  add_job(*source, home, span, encode);
  return true;
}

bool FeaturePlanner::make_room(RequestState& request, uint32_t num_tokens, bool is_needed_now) {
  const uint32_t home = request.placement.rank;
  std::vector<PictureKey>& drops = plan_.ranks[home].feature_drops;
  if (state_.features.make_room(home, num_tokens, step_, drops)) return true;
  if (!is_needed_now) return false;
  // An older request does not wait for what newer ones keep for later: else the spans of two
  // requests could wait for each other.
  const std::vector<RequestState*>& running = state_.ranks[home].running();
  for (auto newest = running.rbegin(); *newest != &request; ++newest) {
    if (!(*newest)->placement.has_pins()) continue;
    state_.unpin_features(**newest);
    if (state_.features.make_room(home, num_tokens, step_, drops)) return true;
  }
  return false;
}

void FeaturePlanner::add_job(uint32_t source, uint32_t destination, const PictureSpan& span,
                             bool encode) {
  plan_.feature_jobs.push_back({.key = span.key,
                                .num_tokens = span.num_tokens,
                                .source = source,
                                .destination = destination,
                                .encode = encode});
  state_.features.put(destination, span.key, span.num_tokens, step_);
  load_[source] += source == destination ? 0 : move_flop(span.num_tokens);
  if (!encode) {
    state_.features.use(source, span.key, step_);
    ++state_.vision_counts.moves;
    return;
  }
  load_[source] += encode_flop(span.num_patches);
  patches_[source] += span.num_patches;
  state_.encoded_flop[source] += encode_flop(span.num_patches);
  state_.vision_counts.encoded_patches += span.num_patches;
  ++state_.vision_counts.misses;
}

}  // namespace beryl::scheduler
