// A ForwardPass without a model: the logits of a row are a function of its token and position, and
// what the executor asked for is kept.
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "worker/engine/forward_pass.h"

namespace beryl::engine {

class TableForward final : public ForwardPass {
 public:
  struct Row {
    int32_t token_id = 0;
    int32_t position = 0;
    uint64_t request_seed = 0;
    int32_t visible_end = 0;
    float feature = -1;  // the first number of its features; -1: the row takes its embedding
  };
  struct Table {
    std::vector<int32_t> block_ids;
    int32_t first_block = 0;
  };

  explicit TableForward(int vocab_size) : vocab_size_(vocab_size) {}

  base::Status forward(const model::DecoderBatch& batch) override {
    ++num_calls;
    rows.clear();
    sliding.clear();
    global.clear();
    logits_rows_.assign(batch.logits_rows.begin(), batch.logits_rows.end());
    for (int i = 0; i < batch.rows.num_rows; ++i) {
      const int32_t* visible_end = batch.rows.visible_end;
      rows.push_back({batch.token_ids[i], batch.rows.positions[i], batch.request_seeds[i],
                      visible_end == nullptr ? batch.rows.positions[i] : visible_end[i]});
    }
    for (const model::FeatureRows& part : batch.features) {
      for (int64_t i = 0; i < part.features.shape[0]; ++i) {
        rows[static_cast<size_t>(part.first_row + i)].feature = *part.features.rows(i, 1).f32();
      }
    }
    for (int s = 0; s < batch.rows.num_segments; ++s) {
      global.push_back(table_of(batch.rows.global_blocks, s));
      sliding.push_back(table_of(batch.rows.sliding_blocks, s));
    }
    rank_rows.assign(batch.shape.rank_rows.begin(), batch.shape.rank_rows.end());
    return result;
  }

  // Default: token id + 1 is by far the most likely, others fall with their distance.
  std::function<float(const Row& row, int id)> logit = [this](const Row& row, int id) {
    const int favourite = (row.token_id + 1) % vocab_size_;
    return 20.0F - static_cast<float>((id - favourite + vocab_size_) % vocab_size_);
  };

  kernels::TensorView logits(int begin, int end) override {
    logits_.assign(static_cast<size_t>((end - begin) * vocab_size_), 0.0F);
    for (int i = begin; i < end; ++i) {
      const Row& row = rows[static_cast<size_t>(logits_rows_[static_cast<size_t>(i)])];
      for (int id = 0; id < vocab_size_; ++id) {
        logits_[static_cast<size_t>((i - begin) * vocab_size_ + id)] = logit(row, id);
      }
    }
    return {logits_.data(), kernels::DType::kFloat32, {end - begin, vocab_size_}};
  }
  int max_logits_rows() const override { return 3; }  // so that slices are exercised

  base::Status result;
  int num_calls = 0;
  std::vector<Row> rows;
  std::vector<Table> global;
  std::vector<Table> sliding;
  std::vector<int32_t> rank_rows;

 private:
  static Table table_of(const kernels::BlockTableView& view, int segment) {
    return {{view.block_ids + view.offsets[segment], view.block_ids + view.offsets[segment + 1]},
            view.first_block[segment]};
  }

  int vocab_size_;
  std::vector<int32_t> logits_rows_;
  std::vector<float> logits_;
};

}  // namespace beryl::engine
