// The picture part of one step: which features are made by which rank, which move and which are
// dropped, so that the features of a span are on its request's rank before its rows run.
//
// What rows of this step need comes first; then spans further on in the prompts use the encoding
// capacity that is left, so that all ranks encode at once.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "coordinator/scheduler/group_state.h"
#include "coordinator/scheduler/step_plan.h"

namespace beryl::scheduler {

class FeaturePlanner {
 public:
  // Jobs and drops go into `plan`, which outlives this. Call start() before anything else.
  FeaturePlanner(GroupState& state, uint64_t step, StepPlan& plan);
  void start(bool is_decoding);

  // Whether the features of `span` can come to `rank` in this step. `take_pinned`: also in place of
  // those that are pinned (an upper bound: provide() takes only what newer requests have pinned).
  bool can_provide(uint32_t rank, const PictureSpan& span, bool take_pinned) const;
  // Brings the features of spans in the next `num_rows` rows of a running request. Returns the rows
  // before the first span that must wait; the caller plans exactly these.
  uint32_t provide(RequestState& request, uint32_t num_rows);
  // Brings and pins features for spans further on, as far as idle capacity and room go. Requests
  // that do not run any more are passed over.
  void look_ahead(const std::vector<RequestState*>& requests);

  // FLOP that this step costs the rank so far.
  uint64_t load(uint32_t rank) const { return load_[rank]; }

 private:
  bool bring(RequestState& request, const PictureSpan& span, bool is_needed_now);
  bool make_room(RequestState& request, uint32_t num_tokens, bool is_needed_now);
  bool has_capacity(uint32_t rank, uint32_t num_patches) const;
  std::optional<uint32_t> choose_encoder(uint32_t home, const PictureSpan& span) const;
  uint32_t choose_keeper(const std::vector<uint32_t>& keepers) const;
  void add_job(uint32_t source, uint32_t destination, const PictureSpan& span, bool encode);

  GroupState& state_;
  const uint64_t step_;
  StepPlan& plan_;
  uint32_t max_patches_ = 0;       // that a rank may encode in this step
  std::vector<uint32_t> patches_;  // [num_ranks] encoded in this step
  std::vector<uint64_t> load_;     // [num_ranks] FLOP
};

}  // namespace beryl::scheduler
