#include "worker/model/decoder.h"

#include <cmath>
#include <numeric>
#include <vector>

#include "parallel/base/assert.h"
#include "worker/model/attention_shape.h"

namespace beryl::model {

using base::Status;
using kernels::DType;
using kernels::TensorView;

// The reference scales embeddings by sqrt(H) in the dtype of its activations: float32 here.
Decoder::Decoder(const DecoderParts& parts, const WorkspaceLimits& limits)
    : parts_(parts),
      workspace_(parts.config, limits, parts.ops),
      sliding_shape_(attention_shape(parts.config, LayerKind::kSliding)),
      global_shape_(attention_shape(parts.config, LayerKind::kGlobal)),
      embedding_scale_(
          static_cast<float>(std::sqrt(static_cast<double>(parts.config.hidden_size)))) {
  BERYL_ASSERT(parts.weights.layers().size() == parts.config.layer_kinds.size(), "{} layers of {}",
               parts.weights.layers().size(), parts.config.layer_kinds.size());
}

Status Decoder::forward(const DecoderBatch& batch, LayerObserver* observer) {
  const int num_rows = batch.rows.num_rows;
  BERYL_ASSERT(num_rows <= workspace_.limits().max_rows, "{} rows, at most {}", num_rows,
               workspace_.limits().max_rows);
  const TensorView residual = workspace_.residual(num_rows);
  embed(batch, residual);
  if (observer != nullptr) observer->on_hidden(0, residual);
  for (int layer = 0; layer < parts_.config.num_hidden_layers; ++layer) {
    attention_block(layer, batch);
    const Status status = feed_forward_block(layer, batch, observer);
    if (!status) return status;
    if (observer != nullptr) observer->on_hidden(layer + 1, residual);
  }
  select_rows(batch.logits_rows, num_rows);
  if (observer != nullptr) observer->on_final_norm(workspace_.selected(num_selected_));
  return Status::ok();
}

void Decoder::embed(const DecoderBatch& batch, const TensorView& residual) {
  parts_.ops.embed(parts_.weights.embed_tokens(), batch.token_ids, embedding_scale_, residual);
  for (const FeatureRows& part : batch.features) {
    const int64_t num_rows = part.features.shape[0];
    BERYL_ASSERT(part.features.shape[1] == parts_.config.hidden_size && part.first_row >= 0 &&
                     part.first_row + num_rows <= batch.rows.num_rows,
                 "features [{}, {}] at row {}", num_rows, part.features.shape[1], part.first_row);
    std::vector<int32_t> rows(static_cast<size_t>(num_rows));
    std::iota(rows.begin(), rows.end(), 0);
    gather_rows(part.features, rows, residual.rows(part.first_row, num_rows));
  }
}

void Decoder::attention_block(int layer, const DecoderBatch& batch) {
  kernels::Ops& ops = parts_.ops;
  const auto& weights = parts_.weights.layers()[static_cast<size_t>(layer)];
  const bool is_global =
      parts_.config.layer_kinds[static_cast<size_t>(layer)] == LayerKind::kGlobal;
  const kernels::AttentionShape& shape = is_global ? global_shape_ : sliding_shape_;
  const float eps = parts_.config.rms_norm_eps;
  const int num_rows = batch.rows.num_rows;
  const TensorView residual = workspace_.residual(num_rows);
  const TensorView normed = workspace_.normed(num_rows);
  const TensorView queries = workspace_.queries(num_rows, shape);
  const TensorView attended = workspace_.attended(num_rows, shape);
  const TensorView projected = workspace_.block_out(num_rows);

  ops.rms_norm(residual, weights.input_layernorm, eps, normed);
  ops.attention_inputs(shape, weights.attention, normed, batch.rows, parts_.cache.layer(layer),
                       queries);
  ops.attention(shape, queries, batch.rows, parts_.cache.layer(layer), attended);
  ops.linear(attended, weights.o_proj, projected);
  ops.add_rms_norm(projected, weights.post_attention_layernorm, eps, residual);
}

// Dense MLP and experts read the same residual. The dense one runs while rows travel.
Status Decoder::feed_forward_block(int layer, const DecoderBatch& batch, LayerObserver* observer) {
  kernels::Ops& ops = parts_.ops;
  const auto& weights = parts_.weights.layers()[static_cast<size_t>(layer)];
  const float eps = parts_.config.rms_norm_eps;
  const int num_rows = batch.rows.num_rows;
  const TensorView residual = workspace_.residual(num_rows);
  const TensorView normed = workspace_.normed(num_rows);
  const TensorView dense = workspace_.block_out(num_rows);
  const TensorView experts_in = workspace_.experts_in(num_rows);
  const TensorView experts_out = workspace_.experts_out(num_rows);
  const TensorView topk_idx = workspace_.topk_idx(num_rows);
  const TensorView topk_weights = workspace_.topk_weights(num_rows);

  ops.route(weights.router, residual, eps, topk_idx, topk_weights);
  ops.rms_norm(residual, weights.pre_feedforward_layernorm_2, eps, experts_in);
  const Status sent = parts_.exchange.begin(batch.shape, {.x = experts_in,
                                                          .topk_idx = topk_idx,
                                                          .topk_weights = topk_weights,
                                                          .positions = batch.rows.positions,
                                                          .request_seeds = batch.request_seeds,
                                                          .layer = layer});
  if (!sent) return sent;
  ops.rms_norm(residual, weights.pre_feedforward_layernorm, eps, normed);
  ops.gated_mlp(weights.mlp, normed, dense);
  const Status received = parts_.exchange.finish(
      [&](const expert::ReceivedRows& in, const TensorView& out) {
        ops.expert_ffn(weights.experts, in.x, in.batch, out);
      },
      experts_out);
  if (!received) return received;
  ops.merge_ffn(weights.merge, dense, experts_out, eps, residual);
  if (observer != nullptr) observer->on_routing(layer, topk_idx, topk_weights);
  return Status::ok();
}

// selected = final norm of the rows whose logits are wanted.
void Decoder::select_rows(std::span<const int32_t> rows, int num_rows) {
  num_selected_ = static_cast<int>(rows.size());
  for (const int32_t row : rows) BERYL_ASSERT(row >= 0 && row < num_rows, "row {}", row);
  const TensorView gathered = workspace_.normed(num_selected_);
  gather_rows(workspace_.residual(num_rows), rows, gathered);
  parts_.ops.rms_norm(gathered, parts_.weights.norm(), parts_.config.rms_norm_eps,
                      workspace_.selected(num_selected_));
}

// A sum over one leaf a row is a gather.
void Decoder::gather_rows(const TensorView& from, std::span<const int32_t> rows,
                          const TensorView& to) {
  std::vector<int32_t> leaf_offsets(rows.size() + 1);
  std::iota(leaf_offsets.begin(), leaf_offsets.end(), 0);
  const std::vector<int32_t> leaf_keys(rows.size(), 0);
  parts_.ops.tree_sum(from,
                      {.num_rows = static_cast<int>(rows.size()),
                       .leaf_offsets = leaf_offsets.data(),
                       .leaf_rows = rows.data(),
                       .leaf_keys = leaf_keys.data()},
                      to);
}

TensorView Decoder::logits(int begin, int end) {
  BERYL_ASSERT(begin >= 0 && begin <= end && end <= num_selected_, "[{}, {}) of {}", begin, end,
               num_selected_);
  const TensorView rows = workspace_.selected(num_selected_).rows(begin, end - begin);
  const TensorView out = workspace_.logits(end - begin);
  parts_.ops.logits(rows, parts_.weights.embed_tokens(), parts_.config.final_logit_softcapping,
                    out);
  return out;
}

}  // namespace beryl::model
