#include "worker/engine/batch_arrays.h"

#include <algorithm>

namespace beryl::engine {

void BatchArrays::BlockTable::clear() {
  block_ids.clear();
  offsets.assign(1, 0);
  first_block.clear();
}

void BatchArrays::BlockTable::append(const std::vector<int32_t>& blocks, uint32_t first,
                                     uint32_t end) {
  block_ids.insert(block_ids.end(), blocks.begin() + first, blocks.begin() + end);
  offsets.push_back(static_cast<int32_t>(block_ids.size()));
  first_block.push_back(static_cast<int32_t>(first));
}

kernels::BlockTableView BatchArrays::BlockTable::view(uint32_t block_size) const {
  return {.block_ids = block_ids.data(),
          .offsets = offsets.data(),
          .first_block = first_block.data(),
          .block_size = static_cast<int>(block_size)};
}

void BatchArrays::clear() {
  token_ids_.clear();
  positions_.clear();
  visible_end_.clear();
  feature_rows_.clear();
  request_seeds_.clear();
  query_start_loc_.assign(1, 0);
  rank_rows_.clear();
  logits_rows_.clear();
  wanted_.clear();
  num_prompt_logits_ = 0;
  global_.clear();
  sliding_.clear();
}

void BatchArrays::build(const wire::StepPlan& plan, const RequestTable& requests,
                        const FeatureStore& store, uint32_t block_size) {
  clear();
  block_size_ = block_size;
  rank_rows_.assign(plan.rank_rows().begin(), plan.rank_rows().end());
  for (const wire::Row& row : plan.rows()) {
    append_row(row, requests);
    append_pictures(row, requests.at(row.handle()), store);
  }
  select_logits(plan, requests);
}

void BatchArrays::append_row(const wire::Row& row, const RequestTable& requests) {
  const RequestState& state = requests.at(row.handle());
  const uint32_t end = row.start() + row.count();
  for (uint32_t position = row.start(); position < end; ++position) {
    token_ids_.push_back(state.token_at(position));
    positions_.push_back(static_cast<int32_t>(position));
    visible_end_.push_back(static_cast<int32_t>(position));
    request_seeds_.push_back(state.request_seed);
  }
  query_start_loc_.push_back(static_cast<int32_t>(token_ids_.size()));
  const uint32_t end_block = (end + block_size_ - 1) / block_size_;
  global_.append(state.global_blocks, 0, end_block);
  sliding_.append(state.sliding_blocks, requests.first_sliding_block(row.start()), end_block);
}

// Of the row that was appended last. A picture lies inside of it or outside.
void BatchArrays::append_pictures(const wire::Row& row, const RequestState& state,
                                  const FeatureStore& store) {
  const uint32_t end = row.start() + row.count();
  const auto first_row = static_cast<uint32_t>(positions_.size()) - row.count();
  for (const PictureSpan& picture : state.pictures) {
    if (picture.start < row.start() || picture.end() > end) continue;
    const uint32_t first = first_row + picture.start - row.start();
    std::fill_n(visible_end_.begin() + first, picture.num_tokens,
                static_cast<int32_t>(picture.end()) - 1);
    feature_rows_.push_back(
        {.first_row = static_cast<int>(first), .features = store.find(picture.key)->view()});
  }
}

void BatchArrays::select_logits(const wire::StepPlan& plan, const RequestTable& requests) {
  const auto select = [this](int row_idx, uint32_t position, uint32_t start) {
    const int32_t first = query_start_loc_[static_cast<size_t>(row_idx)];
    logits_rows_.push_back(first + static_cast<int32_t>(position - start));
    wanted_.push_back({row_idx, position});
  };
  for (int i = 0; i < plan.rows_size(); ++i) {
    const wire::Row& row = plan.rows(i);
    const RequestState& state = requests.at(row.handle());
    if (state.sampling.num_prompt_logprobs() < 0) continue;
    const uint32_t end = std::min(row.start() + row.count(), state.num_prompt_tokens - 1);
    for (uint32_t position = row.start(); position < end; ++position) {
      select(i, position, row.start());
    }
  }
  num_prompt_logits_ = static_cast<int>(wanted_.size());
  for (int i = 0; i < plan.rows_size(); ++i) {
    const wire::Row& row = plan.rows(i);
    if (row.sample()) select(i, row.start() + row.count() - 1, row.start());
  }
}

model::DecoderBatch BatchArrays::batch(const wire::StepPlan& plan) const {
  model::DecoderBatch batch;
  batch.token_ids = token_ids_.data();
  batch.rows.num_rows = static_cast<int>(token_ids_.size());
  batch.rows.num_segments = static_cast<int>(query_start_loc_.size()) - 1;
  batch.rows.positions = positions_.data();
  batch.rows.query_start_loc = query_start_loc_.data();
  // Without pictures every row sees up to itself.
  batch.rows.visible_end = feature_rows_.empty() ? nullptr : visible_end_.data();
  batch.rows.global_blocks = global_.view(block_size_);
  batch.rows.sliding_blocks = sliding_.view(block_size_);
  batch.shape.mode =
      plan.mode() == wire::STEP_MODE_PADDED ? expert::StepMode::kPadded : expert::StepMode::kExact;
  batch.shape.bucket = static_cast<int>(plan.bucket());
  batch.shape.rank_rows = rank_rows_;
  batch.request_seeds = request_seeds_.data();
  batch.logits_rows = logits_rows_;
  batch.features = feature_rows_;
  return batch;
}

}  // namespace beryl::engine
