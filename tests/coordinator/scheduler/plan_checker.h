// A group of model workers that trusts nothing: every plan is compared with the rules of
// step_plan.h when it is made, executed when a rank gets to it, and tokens come from model_token().
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "coordinator/scheduler/scheduler.h"
#include "coordinator/scheduler/step_plan.h"

namespace beryl::scheduler::sim {

// Who holds a page, and since when it may change hands.
class PageLedger {
 public:
  explicit PageLedger(uint32_t num_pages) : pages_(num_pages) {}

  // An empty string, or what is wrong with giving the page away now.
  std::string take(uint32_t page, RequestId owner, uint64_t completed_step);
  void drop(uint32_t page, uint64_t last_step);
  uint32_t num_held() const { return num_held_; }

 private:
  struct Page {
    std::optional<RequestId> owner;
    uint64_t last_step = 0;  // of the last plan that named it
  };
  std::vector<Page> pages_;
  uint32_t num_held_ = 0;
};

// The picture features that one rank keeps.
class FeatureLedger {
 public:
  explicit FeatureLedger(uint32_t num_tokens) : num_tokens_(num_tokens) {}

  // Empty strings, or what is wrong.
  std::string put(const PictureKey& key, uint32_t num_tokens);
  std::string drop(const PictureKey& key);
  // Whether it keeps that many soft tokens of the picture.
  bool keeps(const PictureKey& key, uint32_t num_tokens) const;
  uint32_t num_kept() const { return num_kept_; }

 private:
  uint32_t num_tokens_;
  std::map<PictureKey, uint32_t> kept_;  // -> soft tokens
  uint32_t num_kept_ = 0;
};

class ModelGroup {
 public:
  ModelGroup(uint64_t epoch, const GroupFacts& facts, const SchedulerConfig& config);

  // What the scheduler planned; an empty string if it is sound.
  std::string accept(const StepPlan& plan);
  // The rank executes its oldest accepted plan. Rows of unknown tokens are an error.
  RankResult execute(uint32_t rank);
  // Steps that every rank has executed.
  uint64_t completed_step() const;
  const std::string& error() const { return error_; }
  // Soft tokens whose features a rank keeps after the steps accepted.
  uint32_t num_features_kept(uint32_t rank) const { return ranks_[rank].features.num_kept(); }
  // FLOP of encoding by each rank: in all steps accepted, and in the last.
  const std::vector<uint64_t>& encoded_flop() const { return encoded_flop_; }
  const std::vector<uint64_t>& last_encoded_flop() const { return last_encoded_flop_; }

 private:
  // One admitted request. Planning runs ahead of execution, so each has its own part.
  struct Sequence {
    PlannedAdmission admission;
    uint32_t planned_end = 0;
    uint32_t num_tokens_planned = 0;  // known, or sampled by a planned row
    uint64_t last_step = 0;
    std::vector<uint32_t> global_blocks;
    std::deque<uint32_t> sliding_blocks;
    uint32_t first_sliding = 0;  // block number
    bool is_prefilling() const { return planned_end < admission.token_ids.size(); }
  };
  struct Rank {
    Rank(const GroupFacts& facts)
        : features(facts.num_feature_tokens),
          pages(facts.num_pages),
          planned(facts.max_num_seqs),
          executed(facts.max_num_seqs) {}
    FeatureLedger features;
    PageLedger pages;
    std::vector<std::optional<Sequence>> planned;           // [max_num_seqs]
    std::vector<std::optional<PlannedAdmission>> executed;  // token_ids grow as it samples
    std::deque<RankPlan> queue;
    uint64_t num_executed = 0;
  };

  std::string accept_job(const FeatureJob& job);
  std::string accept_encoding(const FeatureJob& job);
  std::string check_encoding(bool is_decoding) const;
  std::string accept_rank(const StepPlan& plan, uint32_t rank);
  std::string accept_release(Rank& rank, uint32_t handle);
  std::string accept_admission(Rank& rank, const PlannedAdmission& admission);
  std::string accept_row(Rank& rank, const PlannedRow& row, uint64_t step);
  std::string check_spans(const Rank& rank, const Sequence& sequence, const PlannedRow& row);
  std::string append_blocks(Rank& rank, Sequence& sequence, const PlannedRow& row);
  void slide(Rank& rank, Sequence& sequence, uint32_t next_start);
  std::string check_mode(const StepPlan& plan) const;
  RowOutput run_row(Rank& rank, const PlannedRow& row);

  uint64_t epoch_;
  GroupFacts facts_;
  SchedulerConfig config_;
  std::vector<Rank> ranks_;
  uint64_t last_step_ = 0;
  std::unordered_map<RequestId, uint32_t> home_;  // of admitted requests
  std::map<PictureKey, uint32_t> patches_;        // of pictures in admissions
  std::vector<uint64_t> encoded_flop_;            // [num_ranks]
  std::vector<uint64_t> last_encoded_flop_;       // [num_ranks] in the last step accepted
  std::vector<std::vector<uint32_t>> encodings_;  // [num_ranks] patches of each, in the last step
  bool has_span_rows_ = false;                    // the last step accepted
  std::string error_;
};

}  // namespace beryl::scheduler::sim
