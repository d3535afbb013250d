// Decoder: the Gemma 4 text decoder, written once over kernels::Ops and expert::ExpertExchange. One
// object per rank; forward() is collective over the ranks of the group.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/ops.h"
#include "parallel/base/expected.h"
#include "parallel/expert/expert_exchange.h"
#include "worker/cache/kv_cache.h"
#include "worker/model/model_config.h"
#include "worker/model/staged_batch.h"
#include "worker/model/workspace.h"
#include "worker/weights/model_weights.h"

namespace beryl::model {

// Consecutive rows of a step that take features instead of their tokens' embeddings: the soft
// tokens of a picture. Features are not scaled.
struct FeatureRows {
  int first_row = 0;
  kernels::TensorView features;  // [number of rows, H], memory of the operations
};

// This rank's rows of one step, in host memory. Arrays live until forward() returns.
struct DecoderBatch {
  const int32_t* token_ids = nullptr;       // [T], each below vocab_size
  kernels::BatchView rows;                  // block ids of sliding layers are pages of the cache
  expert::StepShape shape;                  // the same on all ranks
  const uint64_t* request_seeds = nullptr;  // [T] for choosing among copies of an expert
  std::span<const int32_t> logits_rows;     // [S] rows whose logits are wanted
  std::span<const FeatureRows> features = {};
};

// Sees intermediate results, for comparing runs, in memory of the operations. Rows are this rank's;
// layers from 0.
class LayerObserver {
 public:
  virtual ~LayerObserver() = default;
  // stage 0: the embedding; stage n: after layer n - 1. [T, H]
  virtual void on_hidden(int stage, const kernels::TensorView& hidden) = 0;
  // topk_idx [T, top_k] int32, topk_weights [T, top_k] float32
  virtual void on_routing(int layer, const kernels::TensorView& topk_idx,
                          const kernels::TensorView& topk_weights) = 0;
  // After the final norm, only the rows of logits_rows. [S, H]
  virtual void on_final_norm(const kernels::TensorView& normed) = 0;
};

// What a decoder works with; everything must outlive it. The cache, exchange and limits are sized
// by the caller for the same max_rows.
struct DecoderParts {
  const ModelConfig& config;
  const weights::ModelWeights& weights;
  kernels::Ops& ops;
  expert::ExpertExchange& exchange;
  cache::KvCache& cache;
};

class Decoder {
 public:
  Decoder(const DecoderParts& parts, const WorkspaceLimits& limits);
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  // Runs all layers, writes the KV cache and keeps the normed rows of logits_rows. Fails only with
  // the exchange; the group's epoch has ended then. A rank without rows still takes part. Steps
  // that decode are handed to Ops::run_repeatable, those with an observer or features excepted.
  base::Status forward(const DecoderBatch& batch, LayerObserver* observer = nullptr);

  // Logits after the softcap of entries [begin, end) of the last batch's logits_rows, at most
  // limits.max_logits_rows at a time. [end - begin, vocab_size] float32; the caller may change
  // them; valid until the next call.
  // In memory of the operations.
  kernels::TensorView logits(int begin, int end);

  const WorkspaceLimits& limits() const { return workspace_.limits(); }

 private:
  kernels::StepKey key_of(const StagedViews& staged) const;
  base::Status run(const StagedViews& staged, const DecoderBatch& batch, LayerObserver* observer);
  void embed(const StagedViews& staged, const DecoderBatch& batch,
             const kernels::TensorView& residual);
  void attention_block(int layer, const kernels::BatchView& rows);
  base::Status feed_forward_block(int layer, const DecoderBatch& batch, LayerObserver* observer);
  void merge_rows(int layer, int num_rows, const kernels::TensorView& results,
                  const kernels::TreeSumBatch& batch, int64_t first_row);
  void select_rows(const kernels::TreeSumBatch& selection, int num_rows);

  DecoderParts parts_;
  Workspace workspace_;
  StagedBatch staged_;
  uint64_t owner_;  // this decoder in keys of steps
  kernels::AttentionShape sliding_shape_;
  kernels::AttentionShape global_shape_;
  float embedding_scale_;
  int num_selected_ = 0;
};

}  // namespace beryl::model
