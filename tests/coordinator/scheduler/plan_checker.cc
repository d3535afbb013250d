#include "tests/coordinator/scheduler/plan_checker.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "coordinator/scheduler/vision_cost.h"
#include "tests/coordinator/scheduler/scenario.h"

namespace beryl::scheduler::sim {
namespace {

constexpr uint32_t kBuckets[] = {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256};

// Block numbers below this are out of every later row's window.
uint32_t first_live_block(uint32_t start, const GroupFacts& facts) {
  const int64_t position = int64_t{start} - (int64_t{facts.sliding_window} - 1);
  return static_cast<uint32_t>(std::max<int64_t>(0, position) / facts.block_size);
}

}  // namespace

std::string PageLedger::take(uint32_t page, RequestId owner, uint64_t completed_step) {
  if (page >= pages_.size()) return fmt::format("page {} of {}", page, pages_.size());
  Page& entry = pages_[page];
  if (entry.owner) {
    return fmt::format("page {} of request {} is given to {}", page, *entry.owner, owner);
  }
  if (entry.last_step > completed_step) {
    return fmt::format("page {} is reused after step {}, but its last plan is step {}", page,
                       completed_step, entry.last_step);
  }
  entry.owner = owner;
  ++num_held_;
  return {};
}

void PageLedger::drop(uint32_t page, uint64_t last_step) {
  pages_[page].owner.reset();
  pages_[page].last_step = last_step;
  --num_held_;
}

std::string FeatureLedger::put(const PictureKey& key, uint32_t num_tokens) {
  if (!kept_.emplace(key, num_tokens).second) return "features come twice";
  num_kept_ += num_tokens;
  if (num_kept_ <= num_tokens_) return {};
  return fmt::format("features of {} tokens, {} fit", num_kept_, num_tokens_);
}

std::string FeatureLedger::drop(const PictureKey& key) {
  const auto found = kept_.find(key);
  if (found == kept_.end()) return "features are dropped but not kept";
  num_kept_ -= found->second;
  kept_.erase(found);
  return {};
}

bool FeatureLedger::keeps(const PictureKey& key, uint32_t num_tokens) const {
  const auto found = kept_.find(key);
  return found != kept_.end() && found->second == num_tokens;
}

ModelGroup::ModelGroup(uint64_t epoch, const GroupFacts& facts, const SchedulerConfig& config)
    : epoch_(epoch),
      facts_(facts),
      config_(config),
      ranks_(facts.num_ranks, Rank(facts)),
      encoded_flop_(facts.num_ranks, 0) {}

uint64_t ModelGroup::completed_step() const {
  uint64_t step = last_step_;
  for (const Rank& rank : ranks_) step = std::min(step, rank.num_executed);
  return step;
}

std::string ModelGroup::accept(const StepPlan& plan) {
  if (plan.epoch != epoch_) return fmt::format("epoch {} in epoch {}", plan.epoch, epoch_);
  if (plan.step != last_step_ + 1) return fmt::format("step {} after {}", plan.step, last_step_);
  if (plan.ranks.size() != ranks_.size()) return fmt::format("{} ranks", plan.ranks.size());
  if (plan.step - completed_step() > config_.max_steps_in_flight) {
    return fmt::format("step {} while {} is completed", plan.step, completed_step());
  }
  last_step_ = plan.step;
  has_span_rows_ = false;
  last_encoded_flop_.assign(ranks_.size(), 0);
  encodings_.assign(ranks_.size(), {});
  bool is_decoding = false;
  // A preempted request may leave one rank and come to another in the same step.
  for (uint32_t rank = 0; rank < ranks_.size(); ++rank) {
    for (uint32_t handle : plan.ranks[rank].releases) {
      std::string error = accept_release(ranks_[rank], handle);
      if (!error.empty()) return fmt::format("step {} rank {}: {}", plan.step, rank, error);
    }
    for (const auto& sequence : ranks_[rank].planned) {
      is_decoding |= sequence && !sequence->is_prefilling();
    }
    for (const PictureKey& key : plan.ranks[rank].feature_drops) {
      std::string error = ranks_[rank].features.drop(key);
      if (!error.empty()) return fmt::format("step {} rank {}: {}", plan.step, rank, error);
    }
    for (const PlannedAdmission& admission : plan.ranks[rank].admissions) {
      for (const PictureSpan& span : admission.pictures) patches_[span.key] = span.num_patches;
    }
  }
  for (const FeatureJob& job : plan.feature_jobs) {
    std::string error = accept_job(job);
    if (!error.empty()) return fmt::format("step {}: {}", plan.step, error);
  }
  if (std::string error = check_encoding(is_decoding); !error.empty()) return error;
  for (uint32_t rank = 0; rank < ranks_.size(); ++rank) {
    std::string error = accept_rank(plan, rank);
    if (!error.empty()) return fmt::format("step {} rank {}: {}", plan.step, rank, error);
    ranks_[rank].queue.push_back(plan.ranks[rank]);
  }
  return check_mode(plan);
}

std::string ModelGroup::accept_job(const FeatureJob& job) {
  if (job.source >= ranks_.size() || job.destination >= ranks_.size()) {
    return fmt::format("features from rank {} to {}", job.source, job.destination);
  }
  if (job.encode) {
    std::string error = accept_encoding(job);
    if (!error.empty()) return error;
  } else if (!ranks_[job.source].features.keeps(job.key, job.num_tokens)) {
    return fmt::format("rank {} is to send features that it does not keep", job.source);
  }
  return ranks_[job.destination].features.put(job.key, job.num_tokens);
}

std::string ModelGroup::accept_encoding(const FeatureJob& job) {
  for (const Rank& rank : ranks_) {
    if (rank.features.keeps(job.key, job.num_tokens)) return "a picture is encoded twice";
  }
  const auto found = patches_.find(job.key);
  if (found == patches_.end()) return "a picture is encoded that no request has";
  encodings_[job.source].push_back(found->second);
  encoded_flop_[job.source] += encode_flop(found->second);
  last_encoded_flop_[job.source] += encode_flop(found->second);
  return {};
}

std::string ModelGroup::check_encoding(bool is_decoding) const {
  const uint32_t limit =
      is_decoding ? config_.max_encode_patches_per_step
                  : std::max(config_.max_encode_patches_per_step, config_.max_encode_patches_alone);
  for (const std::vector<uint32_t>& patches : encodings_) {
    const uint64_t sum = std::accumulate(patches.begin(), patches.end(), uint64_t{0});
    if (patches.size() > 1 && sum > limit) {
      return fmt::format("a rank encodes {} patches in one step, the limit is {}", sum, limit);
    }
  }
  return {};
}

std::string ModelGroup::accept_rank(const StepPlan& plan, uint32_t rank_idx) {
  const RankPlan& part = plan.ranks[rank_idx];
  Rank& rank = ranks_[rank_idx];
  for (const PlannedAdmission& admission : part.admissions) {
    std::string error = accept_admission(rank, admission);
    if (!error.empty()) return error;
    if (!home_.emplace(admission.request, rank_idx).second) {
      return fmt::format("request {} lives twice", admission.request);
    }
  }
  uint32_t num_rows = 0;
  for (const PlannedRow& row : part.rows) {
    std::string error = accept_row(rank, row, plan.step);
    if (!error.empty()) return fmt::format("request {}: {}", row.request, error);
    num_rows += row.count;
  }
  if (num_rows != part.num_rows) return fmt::format("{} rows, not {}", num_rows, part.num_rows);
  if (num_rows > facts_.max_num_batched_tokens) return fmt::format("{} rows", num_rows);
  return {};
}

std::string ModelGroup::accept_release(Rank& rank, uint32_t handle) {
  if (handle >= rank.planned.size() || !rank.planned[handle]) {
    return fmt::format("handle {} is released but not held", handle);
  }
  Sequence& sequence = *rank.planned[handle];
  for (uint32_t block : sequence.global_blocks) {
    if (block % facts_.global_blocks_per_page != 0) continue;
    rank.pages.drop(block / facts_.global_blocks_per_page, sequence.last_step);
  }
  for (uint32_t page : sequence.sliding_blocks) rank.pages.drop(page, sequence.last_step);
  home_.erase(sequence.admission.request);
  rank.planned[handle].reset();
  return {};
}

std::string ModelGroup::accept_admission(Rank& rank, const PlannedAdmission& admission) {
  if (admission.handle >= rank.planned.size()) return fmt::format("handle {}", admission.handle);
  if (rank.planned[admission.handle]) return fmt::format("handle {} is held", admission.handle);
  if (admission.num_prompt_tokens == 0 ||
      admission.num_prompt_tokens > admission.token_ids.size()) {
    return fmt::format("{} prompt tokens", admission.num_prompt_tokens);
  }
  uint32_t previous_end = 0;
  for (const PictureSpan& span : admission.pictures) {
    if (span.start < previous_end || span.end() > admission.num_prompt_tokens) {
      return fmt::format("a span at {}", span.start);
    }
    previous_end = span.end();
  }
  Sequence sequence;
  sequence.admission = admission;
  sequence.num_tokens_planned = static_cast<uint32_t>(admission.token_ids.size());
  rank.planned[admission.handle] = std::move(sequence);
  return {};
}

std::string ModelGroup::accept_row(Rank& rank, const PlannedRow& row, uint64_t step) {
  if (row.handle >= rank.planned.size() || !rank.planned[row.handle]) {
    return fmt::format("handle {} is not held", row.handle);
  }
  Sequence& sequence = *rank.planned[row.handle];
  if (sequence.admission.request != row.request) return "the handle is another request's";
  if (sequence.last_step == step) return "it has two rows in one step";
  if (row.count == 0) return "a row without positions";
  if (row.start != sequence.planned_end) {
    return fmt::format("position {} after {}", row.start, sequence.planned_end);
  }
  const uint32_t end = row.start + row.count;
  if (end > sequence.num_tokens_planned) {
    return fmt::format("positions up to {} of {} tokens", end, sequence.num_tokens_planned);
  }
  if (row.sample != (end == sequence.num_tokens_planned)) return "it samples at the wrong place";
  if (end >= facts_.max_model_len) return fmt::format("position {}", end);
  if (std::string error = check_spans(rank, sequence, row); !error.empty()) return error;
  sequence.planned_end = end;
  sequence.num_tokens_planned += row.sample ? 1 : 0;
  sequence.last_step = step;
  std::string error = append_blocks(rank, sequence, row);
  slide(rank, sequence, end);
  return error;
}

std::string ModelGroup::check_spans(const Rank& rank, const Sequence& sequence,
                                    const PlannedRow& row) {
  const uint32_t end = row.start + row.count;
  for (const PictureSpan& span : sequence.admission.pictures) {
    if (span.end() <= row.start || span.start >= end) continue;
    has_span_rows_ = true;
    if (span.start < row.start || span.end() > end) {
      return fmt::format("the span [{}, {}) is cut by rows [{}, {})", span.start, span.end(),
                         row.start, end);
    }
    if (!rank.features.keeps(span.key, span.num_tokens)) {
      return fmt::format("the span at {} runs without its features", span.start);
    }
  }
  return {};
}

std::string ModelGroup::append_blocks(Rank& rank, Sequence& sequence, const PlannedRow& row) {
  const uint64_t completed = completed_step();
  for (uint32_t block : row.new_global_blocks) {
    if (sequence.global_blocks.size() % facts_.global_blocks_per_page == 0) {
      if (block % facts_.global_blocks_per_page != 0) return "a page begins within";
      std::string error =
          rank.pages.take(block / facts_.global_blocks_per_page, row.request, completed);
      if (!error.empty()) return "global " + error;
    } else if (block != sequence.global_blocks.back() + 1) {
      return fmt::format("global block {} after {}", block, sequence.global_blocks.back());
    }
    sequence.global_blocks.push_back(block);
  }
  for (uint32_t page : row.new_sliding_blocks) {
    std::string error = rank.pages.take(page, row.request, completed);
    if (!error.empty()) return "sliding " + error;
    sequence.sliding_blocks.push_back(page);
  }
  const size_t needed = (sequence.planned_end + facts_.block_size - 1) / facts_.block_size;
  if (sequence.global_blocks.size() != needed ||
      sequence.first_sliding + sequence.sliding_blocks.size() != needed) {
    return fmt::format("{} global and {} + {} sliding blocks for {} positions",
                       sequence.global_blocks.size(), sequence.first_sliding,
                       sequence.sliding_blocks.size(), sequence.planned_end);
  }
  return {};
}

void ModelGroup::slide(Rank& rank, Sequence& sequence, uint32_t next_start) {
  const uint32_t first = first_live_block(next_start, facts_);
  while (sequence.first_sliding < first && !sequence.sliding_blocks.empty()) {
    rank.pages.drop(sequence.sliding_blocks.front(), sequence.last_step);
    sequence.sliding_blocks.pop_front();
    ++sequence.first_sliding;
  }
}

std::string ModelGroup::check_mode(const StepPlan& plan) const {
  uint32_t max_rows = 0;
  bool is_padded = plan.feature_jobs.empty() && !has_span_rows_;
  for (const RankPlan& rank : plan.ranks) {
    max_rows = std::max(max_rows, rank.num_rows);
    for (const PlannedRow& row : rank.rows) is_padded &= row.count == 1 && row.sample;
  }
  if (max_rows == 0) return fmt::format("step {} has no rows", plan.step);
  if (is_padded != (plan.mode == StepMode::kPadded)) return "wrong step mode";
  if (!is_padded) return plan.bucket == 0 ? "" : "a bucket in exact mode";
  const auto* bucket = std::lower_bound(std::begin(kBuckets), std::end(kBuckets), max_rows);
  const uint32_t expected = std::min(*bucket, facts_.max_num_batched_tokens);
  return plan.bucket == expected ? "" : fmt::format("bucket {} for {}", plan.bucket, max_rows);
}

RankResult ModelGroup::execute(uint32_t rank_idx) {
  Rank& rank = ranks_[rank_idx];
  RankPlan plan = std::move(rank.queue.front());
  rank.queue.pop_front();
  RankResult result;
  result.epoch = epoch_;
  result.step = ++rank.num_executed;
  result.rank = rank_idx;
  for (uint32_t handle : plan.releases) rank.executed[handle].reset();
  for (PlannedAdmission& admission : plan.admissions) {
    const uint32_t handle = admission.handle;
    rank.executed[handle] = std::move(admission);
  }
  for (const PlannedRow& row : plan.rows) {
    RowOutput output = run_row(rank, row);
    if (row.sample || !output.prompt_logprobs.empty()) result.outputs.push_back(std::move(output));
  }
  return result;
}

RowOutput ModelGroup::run_row(Rank& rank, const PlannedRow& row) {
  PlannedAdmission& sequence = *rank.executed[row.handle];
  const uint32_t end = row.start + row.count;
  const auto num_tokens = static_cast<uint32_t>(sequence.token_ids.size());
  RowOutput output;
  output.handle = row.handle;
  if (end > num_tokens || (row.sample && end != num_tokens)) {
    error_ = fmt::format("request {}: rows up to {} of {} tokens", row.request, end, num_tokens);
    return output;
  }
  if (sequence.sampling.num_prompt_logprobs >= 0) {
    for (uint32_t idx = row.start + 1; idx <= end && idx < sequence.num_prompt_tokens; ++idx) {
      output.prompt_logprobs.push_back({sequence.token_ids[idx], -static_cast<float>(idx), {}});
    }
  }
  if (row.sample) {
    const int32_t token =
        model_token(sequence.sampling, end, sequence.token_ids.back(),
                    num_tokens - sequence.num_prompt_tokens, sequence.stop_token_ids);
    sequence.token_ids.push_back(token);
    output.tokens.push_back({token, 0, {}});
  }
  return output;
}

}  // namespace beryl::scheduler::sim
