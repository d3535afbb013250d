// BatchArrays: the arrays behind one step's DecoderBatch, kept between steps for their memory.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/wire/cluster.pb.h"
#include "worker/engine/feature_store.h"
#include "worker/engine/request_table.h"
#include "worker/model/decoder.h"

namespace beryl::engine {

// A row whose logits are wanted, in the order of `logits_rows`.
struct WantedLogits {
  int row_idx = 0;        // of the plan's rows
  uint32_t position = 0;  // whose logits: they speak of position + 1
};

class BatchArrays {
 public:
  // The rows were accepted by `requests`, and `store` keeps the features of their pictures. `plan`
  // and `store` must stay as they are as long as the batch is used.
  void build(const wire::StepPlan& plan, const RequestTable& requests, const FeatureStore& store,
             uint32_t block_size);

  // Points into this object.
  model::DecoderBatch batch(const wire::StepPlan& plan) const;

  // First num_prompt_logits() entries: prompt positions whose log-probabilities are wanted; then
  // one for each row that samples.
  const std::vector<WantedLogits>& wanted() const { return wanted_; }
  int num_prompt_logits() const { return num_prompt_logits_; }

 private:
  struct BlockTable {
    std::vector<int32_t> block_ids;
    std::vector<int32_t> offsets;
    std::vector<int32_t> first_block;

    void clear();
    void append(const std::vector<int32_t>& blocks, uint32_t first, uint32_t end);
    kernels::BlockTableView view(uint32_t block_size) const;
  };

  void clear();
  void append_row(const wire::Row& row, const RequestTable& requests);
  void append_pictures(const wire::Row& row, const RequestState& state, const FeatureStore& store);
  void select_logits(const wire::StepPlan& plan, const RequestTable& requests);

  uint32_t block_size_ = 0;
  std::vector<int32_t> token_ids_;    // [T]
  std::vector<int32_t> positions_;    // [T]
  std::vector<int32_t> visible_end_;  // [T]
  std::vector<model::FeatureRows> feature_rows_;
  std::vector<uint64_t> request_seeds_;   // [T]
  std::vector<int32_t> query_start_loc_;  // [S + 1]
  std::vector<int32_t> rank_rows_;        // [num_ranks]
  std::vector<int32_t> logits_rows_;
  std::vector<WantedLogits> wanted_;
  int num_prompt_logits_ = 0;
  BlockTable global_;
  BlockTable sliding_;
};

}  // namespace beryl::engine
