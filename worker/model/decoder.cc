#include "worker/model/decoder.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <span>

#include "parallel/base/assert.h"
#include "worker/model/attention_shape.h"
#include "worker/model/repeatable_step.h"

namespace beryl::model {

using base::Status;
using kernels::DType;
using kernels::TensorView;

namespace {

// The reference scales embeddings by sqrt(H) in the dtype of its activations.
float embedding_scale(int hidden_size, DType activation) {
  const auto scale = static_cast<float>(std::sqrt(static_cast<double>(hidden_size)));
  if (activation == DType::kFloat32) return scale;
  return std::bit_cast<float>(uint32_t{kernels::round_to_bf16(scale)} << 16);
}

uint64_t next_owner() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

int max_feature_rows(std::span<const FeatureRows> features) {
  int64_t most = 0;
  for (const FeatureRows& part : features) most = std::max(most, part.features.shape[0]);
  return static_cast<int>(most);
}

}  // namespace

Decoder::Decoder(const DecoderParts& parts, const WorkspaceLimits& limits)
    : parts_(parts),
      workspace_(parts.config, limits, parts.ops),
      staged_(parts.ops, parts.cache.layout().sliding_step),
      owner_(next_owner()),
      sliding_shape_(attention_shape(parts.config, LayerKind::kSliding)),
      global_shape_(attention_shape(parts.config, LayerKind::kGlobal)),
      embedding_scale_(embedding_scale(parts.config.hidden_size, parts.ops.activation_dtype())) {
  BERYL_ASSERT(parts.weights.layers().size() == parts.config.layer_kinds.size(), "{} layers of {}",
               parts.weights.layers().size(), parts.config.layer_kinds.size());
}

Status Decoder::forward(const DecoderBatch& batch, LayerObserver* observer) {
  const int num_rows = batch.rows.num_rows;
  BERYL_ASSERT(num_rows <= workspace_.limits().max_rows, "{} rows, at most {}", num_rows,
               workspace_.limits().max_rows);
  for (const int32_t row : batch.logits_rows) {
    BERYL_ASSERT(row >= 0 && row < num_rows, "row {}", row);
  }
  StagedViews staged = staged_.stage(batch.token_ids, batch.rows, batch.logits_rows,
                                     max_feature_rows(batch.features));
  num_selected_ = staged.selection.num_rows;
  if (Status status = parts_.exchange.begin_step(); !status) return status;
  if (!parts_.exchange.is_repeatable() || !is_repeatable(staged.rows)) {
    return run(staged, batch, observer);
  }
  // Also where the step is not kept: equal steps have equal plans.
  staged.rows.max_position = last_of_bucket(staged.rows.max_position);
  if (observer != nullptr || !batch.features.empty()) return run(staged, batch, observer);
  Status status = Status::ok();
  parts_.ops.run_repeatable(key_of(staged), [&] { status = run(staged, batch, nullptr); });
  return status;
}

// All that run() launches with, besides what it finds in memory.
kernels::StepKey Decoder::key_of(const StagedViews& staged) const {
  return {.owner = owner_,
          .arrays = staged_.memory(),
          .num_rows = staged.rows.num_rows,
          .num_segments = staged.rows.num_segments,
          .max_segment_rows = staged.rows.max_segment_rows,
          .num_selected = staged.selection.num_rows,
          .has_visible_end = staged.rows.visible_end != nullptr,
          .max_position = staged.rows.max_position};
}

Status Decoder::run(const StagedViews& staged, const DecoderBatch& batch, LayerObserver* observer) {
  const int num_rows = batch.rows.num_rows;
  const TensorView residual = workspace_.residual(num_rows);
  embed(staged, batch, residual);
  if (observer != nullptr) observer->on_hidden(0, residual);
  for (int layer = 0; layer < parts_.config.num_hidden_layers; ++layer) {
    attention_block(layer, staged.rows);
    const Status status = feed_forward_block(layer, batch, observer);
    if (!status) return status;
    if (observer != nullptr) observer->on_hidden(layer + 1, residual);
  }
  select_rows(staged.selection, num_rows);
  if (observer != nullptr) observer->on_final_norm(workspace_.selected(num_selected_));
  return Status::ok();
}

void Decoder::embed(const StagedViews& staged, const DecoderBatch& batch,
                    const TensorView& residual) {
  parts_.ops.embed(parts_.weights.embed_tokens(), staged.token_ids, embedding_scale_, residual);
  for (const FeatureRows& part : batch.features) {
    const int64_t num_rows = part.features.shape[0];
    BERYL_ASSERT(part.features.shape[1] == parts_.config.hidden_size && part.first_row >= 0 &&
                     part.first_row + num_rows <= batch.rows.num_rows,
                 "features [{}, {}] at row {}", num_rows, part.features.shape[1], part.first_row);
    kernels::TreeSumBatch copy = staged.copy;
    copy.num_rows = static_cast<int>(num_rows);
    parts_.ops.tree_sum(part.features, copy, residual.rows(part.first_row, num_rows));
  }
}

void Decoder::attention_block(int layer, const kernels::BatchView& rows) {
  kernels::Ops& ops = parts_.ops;
  const auto& weights = parts_.weights.layers()[static_cast<size_t>(layer)];
  const bool is_global =
      parts_.config.layer_kinds[static_cast<size_t>(layer)] == LayerKind::kGlobal;
  const kernels::AttentionShape& shape = is_global ? global_shape_ : sliding_shape_;
  const float eps = parts_.config.rms_norm_eps;
  const int num_rows = rows.num_rows;
  const TensorView residual = workspace_.residual(num_rows);
  const TensorView normed = workspace_.normed(num_rows);
  const TensorView queries = workspace_.queries(num_rows, shape);
  const TensorView attended = workspace_.attended(num_rows, shape);
  const TensorView projected = workspace_.block_out(num_rows);

  if (layer == 0) ops.rms_norm(residual, weights.input_layernorm, eps, normed);
  ops.attention_inputs(shape, weights.attention, normed, rows, parts_.cache.layer(layer), queries);
  ops.attention(shape, queries, rows, parts_.cache.layer(layer), attended);
  ops.linear(attended, weights.o_proj, projected);
  const std::array<kernels::NormOutput, 2> norms = {
      {{weights.pre_feedforward_layernorm, normed},
       {weights.pre_feedforward_layernorm_2, workspace_.experts_in(num_rows)}}};
  ops.add_rms_norm_then(projected, weights.post_attention_layernorm, eps, residual, norms);
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
  const TensorView topk_idx = workspace_.topk_idx(num_rows);
  const TensorView topk_weights = workspace_.topk_weights(num_rows);

  const auto groups = parts_.exchange.local_groups(num_rows);
  if (groups) {
    ops.route_and_group(weights.router, residual, eps, topk_idx, topk_weights, groups->slot_of,
                        groups->groups);
  } else {
    ops.route(weights.router, residual, eps, topk_idx, topk_weights);
  }
  const Status sent = parts_.exchange.begin(batch.shape, {.x = experts_in,
                                                          .topk_idx = topk_idx,
                                                          .topk_weights = topk_weights,
                                                          .positions = batch.rows.positions,
                                                          .request_seeds = batch.request_seeds,
                                                          .layer = layer,
                                                          .is_grouped = groups.has_value()});
  if (!sent) return sent;
  ops.gated_mlp(weights.mlp, normed, dense);
  const Status received = parts_.exchange.finish(
      [&](const expert::ReceivedRows& in, const TensorView& out) {
        ops.expert_ffn(weights.experts, in.x, in.batch, out);
      },
      [&](const TensorView& results, const kernels::TreeSumBatch& batch, int64_t first_row) {
        merge_rows(layer, num_rows, results, batch, first_row);
      });
  if (!received) return received;
  if (observer != nullptr) observer->on_routing(layer, topk_idx, topk_weights);
  return Status::ok();
}

// The feed-forward block's result for rows [first_row, first_row + batch.num_rows), and what the
// next layer begins with.
void Decoder::merge_rows(int layer, int num_rows, const TensorView& results,
                         const kernels::TreeSumBatch& batch, int64_t first_row) {
  const auto& layers = parts_.weights.layers();
  const auto next = static_cast<size_t>(layer) + 1;
  const auto part = [&](const TensorView& rows) { return rows.rows(first_row, batch.num_rows); };
  std::array<kernels::NormOutput, 1> norms;
  const bool has_next = next < layers.size();
  if (has_next) norms[0] = {layers[next].input_layernorm, part(workspace_.normed(num_rows))};
  parts_.ops.sum_and_merge_ffn(
      layers[next - 1].merge, part(workspace_.block_out(num_rows)),
      {.results = results, .batch = batch, .sums = part(workspace_.experts_out(num_rows))},
      parts_.config.rms_norm_eps, part(workspace_.residual(num_rows)),
      std::span(norms).first(has_next ? 1 : 0));
}

// selected = final norm of the rows whose logits are wanted.
void Decoder::select_rows(const kernels::TreeSumBatch& selection, int num_rows) {
  const TensorView gathered = workspace_.block_out(num_selected_);
  parts_.ops.tree_sum(workspace_.residual(num_rows), selection, gathered);
  parts_.ops.rms_norm(gathered, parts_.weights.norm(), parts_.config.rms_norm_eps,
                      workspace_.selected(num_selected_));
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
