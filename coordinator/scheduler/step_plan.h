// StepPlan: what every rank of a group does in one step (design: the step plan). Made only by the
// scheduler, turned into one wire message per rank by coordinator/cluster.
#pragma once

#include <cstdint>
#include <vector>

#include "coordinator/scheduler/request.h"

namespace beryl::scheduler {

enum class StepMode {
  kPadded,  // every row is one decoded token
  kExact,   // some rank has prefill rows
};

struct PlannedAdmission {
  uint32_t handle = 0;  // index below max_num_seqs of the rank
  RequestId request = 0;
  SamplingParams sampling;
  std::vector<int32_t> stop_token_ids;
  std::vector<int32_t> token_ids;  // prompt and what was generated before
  uint32_t num_prompt_tokens = 0;
  std::vector<PictureSpan> pictures;
};

// The features of a picture come to rank `destination`, which keeps them until they are dropped.
// Rank `source` makes them from the pixels, or keeps them already.
struct FeatureJob {
  PictureKey key;
  uint32_t num_tokens = 0;
  uint32_t source = 0;
  uint32_t destination = 0;
  bool encode = false;
};

// Rows for positions [start, start + count) of one request.
struct PlannedRow {
  uint32_t handle = 0;
  RequestId request = 0;
  uint32_t start = 0;
  uint32_t count = 0;
  bool sample = false;  // the token after the last row is drawn
  std::vector<uint32_t> new_global_blocks;
  std::vector<uint32_t> new_sliding_blocks;
};

struct RankPlan {
  std::vector<uint32_t> releases;         // handles
  std::vector<PictureKey> feature_drops;  // of the features this rank keeps
  std::vector<PlannedAdmission> admissions;
  std::vector<PlannedRow> rows;
  uint32_t num_rows = 0;  // sum of counts
};

struct StepPlan {
  uint64_t epoch = 0;
  uint64_t step = 0;
  StepMode mode = StepMode::kExact;
  uint32_t bucket = 0;
  uint32_t placement_version = 1;
  std::vector<FeatureJob> feature_jobs;  // done in order, before the rows; equal on all ranks
  std::vector<RankPlan> ranks;           // [num_ranks]
};

struct RowOutput {
  uint32_t handle = 0;
  std::vector<GeneratedToken> tokens;
  std::vector<GeneratedToken> prompt_logprobs;
  std::string error;
};

// What one rank reported of one step.
struct RankResult {
  uint64_t epoch = 0;
  uint64_t step = 0;
  uint32_t rank = 0;
  std::vector<RowOutput> outputs;
  int64_t duration_us = 0;
};

}  // namespace beryl::scheduler
