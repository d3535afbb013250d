#include "kernels/cpu/attention_inputs.h"

#include <algorithm>

#include "kernels/cpu/cache_layout.h"
#include "kernels/cpu/rope_angles.h"

namespace beryl::kernels::cpu {
namespace {

constexpr int64_t kParallelRows = 4;

}  // namespace

struct AttentionInputs::Call {
  const AttentionShape& shape;
  const AttentionWeights& weights;
  const BatchView& batch;
  CacheLayout layout;
  float* q;  // [T, num_heads, head_dim]
  float* k;  // [T, num_kv_heads, head_dim]
  float* v;  // the same; null on global layers
};

void AttentionInputs::project(const Call& call, const PackedRows& x) {
  const int64_t head_dim = call.shape.head_dim;
  const int64_t hidden = call.weights.q_proj.shape[1];
  const int64_t kv_width = call.shape.num_kv_heads * head_dim;
  const LinearJob jobs[] = {
      {call.weights.q_proj.bf16(), call.shape.num_heads * head_dim, call.q},
      {call.weights.k_proj.bf16(), kv_width, call.k},
      {call.v == nullptr ? nullptr : call.weights.v_proj.bf16(), kv_width, call.v},
  };
  run_linears(context_, x, hidden, std::span(jobs, call.v == nullptr ? 2 : 3));
}

// K and V of one head on a global layer: V = norm(c), and the rotated part of K, made from V.
void AttentionInputs::finish_key(const Call& call, const float* angles, const float* key,
                                 float* entry) const {
  const AttentionShape& shape = call.shape;
  const int num_pairs = shape.rotary_dim / 2;
  const int half = shape.head_dim / 2;
  const uint16_t* k_norm = call.weights.k_norm.bf16();
  context_.kernels.norm_row(key, nullptr, shape.head_dim, shape.rms_norm_eps, entry);
  float* first = entry + shape.head_dim;
  float* second = first + num_pairs;
  std::copy(entry, entry + num_pairs, first);
  std::copy(entry + half, entry + half + num_pairs, second);
  context_.kernels.mul_weight(k_norm, 1, num_pairs, first);
  context_.kernels.mul_weight(k_norm + half, 1, num_pairs, second);
  context_.kernels.rotate_pairs(angles, angles + num_pairs, num_pairs, first, second);
}

void AttentionInputs::finish_row(const Call& call, int row, int segment, float* angles) const {
  const AttentionShape& shape = call.shape;
  const KernelTable& kernels = context_.kernels;
  const int32_t position = call.batch.positions[row];
  const int head_dim = shape.head_dim;
  const int half = head_dim / 2;
  const int num_pairs = shape.rotary_dim / 2;
  const float* sin = angles + num_pairs;
  const uint16_t* k_norm = call.weights.k_norm.bf16();
  rope_angles(shape.inv_freq, num_pairs, position, angles, angles + num_pairs);
  for (int h = 0; h < shape.num_heads; ++h) {
    float* head = call.q + (int64_t{row} * shape.num_heads + h) * head_dim;
    kernels.norm_row(head, call.weights.q_norm.bf16(), head_dim, shape.rms_norm_eps, head);
    kernels.rotate_pairs(angles, sin, num_pairs, head, head + half);
    if (!shape.is_global()) continue;
    for (const int first : {num_pairs, half + num_pairs}) {
      kernels.mul_weight(k_norm + first, 1, half - num_pairs, head + first);
    }
  }
  for (int h = 0; h < shape.num_kv_heads; ++h) {
    const int64_t offset = (int64_t{row} * shape.num_kv_heads + h) * head_dim;
    float* entry = call.layout.entry(segment, h, position);
    if (shape.is_global()) {
      finish_key(call, angles, call.k + offset, entry);
      continue;
    }
    kernels.norm_row(call.k + offset, k_norm, head_dim, shape.rms_norm_eps, entry);
    kernels.rotate_pairs(angles, sin, num_pairs, entry, entry + half);
    kernels.norm_row(call.v + offset, nullptr, head_dim, shape.rms_norm_eps,
                     entry + call.layout.value_offset());
  }
}

void AttentionInputs::run(const AttentionShape& shape, const AttentionWeights& weights,
                          const PackedRows& x, const BatchView& batch, const KvCacheView& cache,
                          float* q) {
  BERYL_CHECK(x.num_rows() == batch.num_rows && shape.rotary_dim <= shape.head_dim);
  if (batch.num_rows == 0) return;
  const int64_t kv_size = int64_t{batch.num_rows} * shape.num_kv_heads * shape.head_dim;
  float* k = projected_.reserve(2 * kv_size);
  float* v = shape.is_global() ? nullptr : k + kv_size;
  const Call call = {shape, weights, batch, CacheLayout(shape, batch, cache), q, k, v};
  project(call, x);
  segments_.assign(static_cast<size_t>(batch.num_rows), 0);
  for (int s = 0; s < batch.num_segments; ++s) {
    std::fill(segments_.begin() + batch.query_start_loc[s],
              segments_.begin() + batch.query_start_loc[s + 1], s);
  }
  context_.pool.parallel_for(batch.num_rows, kParallelRows, [&](int64_t begin, int64_t end) {
    std::vector<float> angles(static_cast<size_t>(shape.rotary_dim));
    for (int64_t row = begin; row < end; ++row) {
      finish_row(call, static_cast<int>(row), segments_[static_cast<size_t>(row)], angles.data());
    }
  });
}

}  // namespace beryl::kernels::cpu
