// Plain implementation of every operation: one thread, scalar loops.
#include "kernels/cpu/cpu_ops.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels/cpu/sampling.h"

namespace beryl::kernels::cpu {
namespace {

float to_float(uint16_t bf16) {
  return std::bit_cast<float>(static_cast<uint32_t>(bf16) << 16);
}

float dot(const float* x, const uint16_t* w, int64_t k) {
  float lanes[8] = {};
  for (int64_t i = 0; i < k; ++i) lanes[i % 8] += x[i] * to_float(w[i]);
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
         ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

float gelu_tanh(float z) {
  return 0.5f * z * (1.0f + std::tanh(0.7978845608028654f * (z + 0.044715f * z * z * z)));
}

// 1 / sqrt(mean(x^2) + eps)
float inverse_rms(const float* x, int64_t n, float eps) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  return static_cast<float>(1.0 / std::sqrt(sum / static_cast<double>(n) + eps));
}

void norm_row(const float* x, const uint16_t* weight, int64_t n, float eps, float* out) {
  const float scale = inverse_rms(x, n, eps);
  for (int64_t i = 0; i < n; ++i) {
    const float value = x[i] * scale;
    out[i] = weight == nullptr ? value : value * to_float(weight[i]);
  }
}

const uint16_t* optional_bf16(const TensorView& weight) {
  return weight.empty() ? nullptr : weight.bf16();
}

class CpuOps final : public Ops {
 public:
  explicit CpuOps(const CpuOpsOptions&) {}

  void* allocate(size_t num_bytes) override {
    const size_t rounded = (std::max<size_t>(num_bytes, 1) + 63) / 64 * 64;
    void* memory = std::aligned_alloc(64, rounded);
    BERYL_CHECK(memory != nullptr);
    std::memset(memory, 0, rounded);
    return memory;
  }
  void free(void* memory) noexcept override { std::free(memory); }

  void embed(const TensorView& table, const int32_t* ids, float scale,
             const TensorView& out) override {
    const int64_t hidden = table.shape[1];
    for (int64_t t = 0; t < out.shape[0]; ++t) {
      BERYL_CHECK(ids[t] >= 0 && ids[t] < table.shape[0]);
      for (int64_t i = 0; i < hidden; ++i) {
        out.f32()[t * hidden + i] = to_float(table.bf16()[ids[t] * hidden + i]) * scale;
      }
    }
  }

  void rms_norm(const TensorView& x, const TensorView& weight, float eps,
                const TensorView& out) override {
    const int64_t n = x.shape[1];
    for (int64_t t = 0; t < x.shape[0]; ++t) {
      norm_row(x.f32() + t * n, optional_bf16(weight), n, eps, out.f32() + t * n);
    }
  }

  void add_rms_norm(const TensorView& x, const TensorView& weight, float eps,
                    const TensorView& residual) override {
    const int64_t n = x.shape[1];
    std::vector<float> normed(static_cast<size_t>(n));
    for (int64_t t = 0; t < x.shape[0]; ++t) {
      norm_row(x.f32() + t * n, optional_bf16(weight), n, eps, normed.data());
      for (int64_t i = 0; i < n; ++i) residual.f32()[t * n + i] += normed[static_cast<size_t>(i)];
    }
  }

  void linear(const TensorView& x, const TensorView& weight, const TensorView& out) override {
    const int64_t k = weight.shape[1];
    const int64_t n = weight.shape[0];
    BERYL_CHECK(x.shape[1] == k && out.shape[1] == n && x.shape[0] == out.shape[0]);
    for (int64_t t = 0; t < x.shape[0]; ++t) {
      for (int64_t i = 0; i < n; ++i) {
        out.f32()[t * n + i] = dot(x.f32() + t * k, weight.bf16() + i * k, k);
      }
    }
  }

  void attention_inputs(const AttentionShape& shape, const AttentionWeights& weights,
                        const TensorView& x, const BatchView& batch, const KvCacheView& cache,
                        const TensorView& q) override;
  void attention(const AttentionShape& shape, const TensorView& q, const BatchView& batch,
                 const KvCacheView& cache, const TensorView& out) override;
  void route(const RouterWeights& weights, const TensorView& x, float eps,
             const TensorView& topk_idx, const TensorView& topk_weights) override;

  void gated_mlp(const GatedMlpWeights& weights, const TensorView& x,
                 const TensorView& out) override {
    const int64_t hidden = x.shape[1];
    const int64_t width = weights.gate_proj.shape[0];
    for (int64_t t = 0; t < x.shape[0]; ++t) {
      mlp_row(weights.gate_proj.bf16(), weights.up_proj.bf16(), weights.down_proj.bf16(),
              {hidden, width}, x.f32() + t * hidden, out.f32() + t * hidden);
    }
  }

  void expert_ffn(const ExpertWeights& weights, const TensorView& x, const ExpertBatch& batch,
                  const TensorView& out) override {
    const int64_t hidden = x.shape[1];
    const int64_t width = weights.down_proj.shape[2];
    for (int64_t e = 0; e < weights.down_proj.shape[0]; ++e) {
      const uint16_t* gate = weights.gate_up_proj.bf16() + e * 2 * width * hidden;
      const uint16_t* down = weights.down_proj.bf16() + e * hidden * width;
      for (int64_t a = batch.expert_offsets[e]; a < batch.expert_offsets[e + 1]; ++a) {
        float* row = out.f32() + a * hidden;
        mlp_row(gate, gate + width * hidden, down, {hidden, width},
                x.f32() + batch.row_idx[a] * hidden, row);
        for (int64_t i = 0; i < hidden; ++i) row[i] *= batch.weight[a];
      }
    }
  }

  void tree_sum(const TensorView& in, const TreeSumBatch& batch, const TensorView& out) override;

  void merge_ffn(const FfnMergeWeights& weights, const TensorView& dense, const TensorView& experts,
                 float eps, const TensorView& residual) override {
    const int64_t n = dense.shape[1];
    std::vector<float> a(static_cast<size_t>(n));
    std::vector<float> b(static_cast<size_t>(n));
    for (int64_t t = 0; t < dense.shape[0]; ++t) {
      norm_row(dense.f32() + t * n, weights.dense_norm.bf16(), n, eps, a.data());
      norm_row(experts.f32() + t * n, weights.experts_norm.bf16(), n, eps, b.data());
      for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
      norm_row(a.data(), weights.post_norm.bf16(), n, eps, b.data());
      float* row = residual.f32() + t * n;
      for (size_t i = 0; i < b.size(); ++i) row[i] = (row[i] + b[i]) * weights.layer_scalar;
    }
  }

  void logits(const TensorView& x, const TensorView& table, float cap,
              const TensorView& out) override {
    linear(x, table, out);
    float* value = out.f32();
    for (int64_t i = 0; i < out.num_elements(); ++i) value[i] = cap * std::tanh(value[i] / cap);
  }

  void sample(const TensorView& logits, const SamplingBatch& batch,
              SampledToken* sampled) override {
    SamplingScratch scratch;
    for (int s = 0; s < batch.num_rows; ++s) {
      sampled[s] = sample_row(batch.rows[s], logits.f32() + s * logits.shape[1],
                              static_cast<int32_t>(logits.shape[1]), scratch);
    }
  }

 private:
  struct MlpShape {
    int64_t hidden;
    int64_t width;
  };
  static void mlp_row(const uint16_t* gate, const uint16_t* up, const uint16_t* down,
                      MlpShape shape, const float* x, float* out) {
    std::vector<float> inner(static_cast<size_t>(shape.width));
    for (int64_t i = 0; i < shape.width; ++i) {
      inner[static_cast<size_t>(i)] = gelu_tanh(dot(x, gate + i * shape.hidden, shape.hidden)) *
                                      dot(x, up + i * shape.hidden, shape.hidden);
    }
    for (int64_t i = 0; i < shape.hidden; ++i) {
      out[i] = dot(inner.data(), down + i * shape.width, shape.width);
    }
  }
};

// Rotates pairs (i, i + head_dim / 2), i < rotary_dim / 2, of one head in place.
void rotate(const AttentionShape& shape, int32_t position, float* head) {
  const int half = shape.head_dim / 2;
  for (int i = 0; i < shape.rotary_dim / 2; ++i) {
    const float angle = static_cast<float>(position) * shape.inv_freq[i];
    const float c = static_cast<float>(std::cos(static_cast<double>(angle)));
    const float s = static_cast<float>(std::sin(static_cast<double>(angle)));
    const float a = head[i];
    const float b = head[i + half];
    head[i] = a * c - b * s;
    head[i + half] = b * c + a * s;
  }
}

bool is_rotated(const AttentionShape& shape, int dim) {
  return dim % (shape.head_dim / 2) < shape.rotary_dim / 2;
}

// Numbers kept for position `position` of KV head `head`. Global: V then rotated K. Sliding: K; its
// V is block_size * head_dim further on.
float* cache_entry(const AttentionShape& shape, const BatchView& batch, const KvCacheView& cache,
                   int segment, int head, int32_t position) {
  const BlockTableView& table = shape.is_global() ? batch.global_blocks : batch.sliding_blocks;
  const int entry = position / table.block_size - table.first_block[segment];
  BERYL_CHECK(entry >= 0 && entry < table.offsets[segment + 1] - table.offsets[segment]);
  const int64_t block = table.block_ids[table.offsets[segment] + entry];
  const int slot = position % table.block_size;
  const int64_t head_size = int64_t{table.block_size} * shape.cached_dim();
  float* base = cache.data.f32() + (block * shape.num_kv_heads + head) * head_size;
  return base + int64_t{slot} * (shape.is_global() ? shape.cached_dim() : shape.head_dim);
}

void write_global(const AttentionShape& shape, const uint16_t* k_norm, int32_t position,
                  const float* value, float* entry) {
  const int half = shape.head_dim / 2;
  const int rotated = shape.rotary_dim / 2;
  std::vector<float> key(value, value + shape.head_dim);
  for (int i = 0; i < shape.head_dim; ++i) key[static_cast<size_t>(i)] *= to_float(k_norm[i]);
  rotate(shape, position, key.data());
  std::copy(value, value + shape.head_dim, entry);
  std::copy(key.data(), key.data() + rotated, entry + shape.head_dim);
  std::copy(key.data() + half, key.data() + half + rotated, entry + shape.head_dim + rotated);
}

void CpuOps::attention_inputs(const AttentionShape& shape, const AttentionWeights& weights,
                              const TensorView& x, const BatchView& batch, const KvCacheView& cache,
                              const TensorView& q) {
  const int64_t d = shape.head_dim;
  const int64_t rows = batch.num_rows;
  const int64_t kv_width = shape.num_kv_heads * d;
  linear(x, weights.q_proj, {q.f32(), DType::kFloat32, {rows, shape.num_heads * d}});
  std::vector<float> k(static_cast<size_t>(rows * kv_width));
  std::vector<float> v(k.size());
  linear(x, weights.k_proj, {k.data(), DType::kFloat32, {rows, kv_width}});
  if (!shape.is_global()) {
    linear(x, weights.v_proj, {v.data(), DType::kFloat32, {rows, kv_width}});
  }
  const uint16_t* q_norm = weights.q_norm.bf16();
  const uint16_t* k_norm = weights.k_norm.bf16();
  for (int s = 0; s < batch.num_segments; ++s) {
    const int block_size =
        shape.is_global() ? batch.global_blocks.block_size : batch.sliding_blocks.block_size;
    for (int t = batch.query_start_loc[s]; t < batch.query_start_loc[s + 1]; ++t) {
      const int32_t position = batch.positions[t];
      for (int h = 0; h < shape.num_heads; ++h) {
        float* head = q.f32() + (t * shape.num_heads + h) * d;
        norm_row(head, q_norm, d, shape.rms_norm_eps, head);
        rotate(shape, position, head);
        for (int i = 0; shape.is_global() && i < d; ++i) {
          if (!is_rotated(shape, i)) head[i] *= to_float(k_norm[i]);
        }
      }
      for (int h = 0; h < shape.num_kv_heads; ++h) {
        float* key = k.data() + t * kv_width + h * d;
        float* value = v.data() + t * kv_width + h * d;
        float* entry = cache_entry(shape, batch, cache, s, h, position);
        if (shape.is_global()) {
          norm_row(key, nullptr, d, shape.rms_norm_eps, value);
          write_global(shape, k_norm, position, value, entry);
        } else {
          norm_row(key, k_norm, d, shape.rms_norm_eps, entry);
          rotate(shape, position, entry);
          norm_row(value, nullptr, d, shape.rms_norm_eps, entry + block_size * d);
        }
      }
    }
  }
}

float score(const AttentionShape& shape, const float* q, const float* entry) {
  double sum = 0;
  const int half = shape.head_dim / 2;
  for (int i = 0; i < shape.head_dim; ++i) {
    int index = i;
    if (shape.is_global() && is_rotated(shape, i)) {
      index = shape.head_dim + i % half + (i >= half ? shape.rotary_dim / 2 : 0);
    }
    sum += static_cast<double>(q[i]) * entry[index];
  }
  return static_cast<float>(sum);
}

void CpuOps::attention(const AttentionShape& shape, const TensorView& q, const BatchView& batch,
                       const KvCacheView& cache, const TensorView& out) {
  const int d = shape.head_dim;
  const int group = shape.num_heads / shape.num_kv_heads;
  const int64_t value_offset = shape.is_global() ? 0 : int64_t{batch.sliding_blocks.block_size} * d;
  for (int s = 0; s < batch.num_segments; ++s) {
    for (int t = batch.query_start_loc[s]; t < batch.query_start_loc[s + 1]; ++t) {
      const int32_t position = batch.positions[t];
      const int32_t first =
          shape.is_global() ? 0 : std::max<int32_t>(0, position - shape.window + 1);
      const bool is_plain = shape.is_global() || batch.visible_end == nullptr;
      const int32_t last = is_plain ? position : batch.visible_end[t];
      std::vector<float> p(static_cast<size_t>(last - first + 1));
      for (int h = 0; h < shape.num_heads; ++h) {
        const int64_t row = int64_t{t} * shape.num_heads + h;
        for (int32_t j = first; j <= last; ++j) {
          p[static_cast<size_t>(j - first)] =
              score(shape, q.f32() + row * d, cache_entry(shape, batch, cache, s, h / group, j));
        }
        const float top = *std::max_element(p.begin(), p.end());
        double total = 0;
        for (float& value : p) total += value = std::exp(value - top);
        std::vector<double> sum(static_cast<size_t>(d));
        for (int32_t j = first; j <= last; ++j) {
          const float* value = cache_entry(shape, batch, cache, s, h / group, j) + value_offset;
          const double weight = p[static_cast<size_t>(j - first)];
          for (int i = 0; i < d; ++i) sum[static_cast<size_t>(i)] += weight * value[i];
        }
        for (int i = 0; i < d; ++i) {
          out.f32()[row * d + i] = static_cast<float>(sum[static_cast<size_t>(i)] / total);
        }
      }
    }
  }
}

void CpuOps::route(const RouterWeights& weights, const TensorView& x, float eps,
                   const TensorView& topk_idx, const TensorView& topk_weights) {
  const int64_t hidden = x.shape[1];
  const int64_t num_experts = weights.proj.shape[0];
  const int64_t top_k = topk_idx.shape[1];
  const float root = static_cast<float>(1.0 / std::sqrt(static_cast<double>(hidden)));
  std::vector<float> u(static_cast<size_t>(hidden));
  std::vector<float> p(static_cast<size_t>(num_experts));
  std::vector<int32_t> order(p.size());
  for (int64_t t = 0; t < x.shape[0]; ++t) {
    norm_row(x.f32() + t * hidden, nullptr, hidden, eps, u.data());
    for (int64_t i = 0; i < hidden; ++i) {
      u[static_cast<size_t>(i)] *= to_float(weights.scale.bf16()[i]) * root;
    }
    for (int64_t e = 0; e < num_experts; ++e) {
      p[static_cast<size_t>(e)] = dot(u.data(), weights.proj.bf16() + e * hidden, hidden);
    }
    const float top = *std::max_element(p.begin(), p.end());
    float total = 0;
    for (float& value : p) total += value = std::exp(value - top);
    for (float& value : p) value /= total;
    for (size_t e = 0; e < order.size(); ++e) order[e] = static_cast<int32_t>(e);
    std::partial_sort(order.begin(), order.begin() + top_k, order.end(), [&](int32_t a, int32_t b) {
      const float pa = p[static_cast<size_t>(a)];
      const float pb = p[static_cast<size_t>(b)];
      return pa != pb ? pa > pb : a < b;
    });
    float chosen = 0;
    for (int64_t i = 0; i < top_k; ++i) chosen += p[static_cast<size_t>(order[i])];
    for (int64_t i = 0; i < top_k; ++i) {
      const int32_t e = order[static_cast<size_t>(i)];
      topk_idx.as<int32_t>()[t * top_k + i] = e;
      topk_weights.f32()[t * top_k + i] =
          p[static_cast<size_t>(e)] / chosen * to_float(weights.per_expert_scale.bf16()[e]);
    }
  }
}

void CpuOps::tree_sum(const TensorView& in, const TreeSumBatch& batch, const TensorView& out) {
  const int64_t hidden = out.shape[1];
  for (int r = 0; r < batch.num_rows; ++r) {
    float* row = out.f32() + r * hidden;
    const int begin = batch.leaf_offsets[r];
    const int end = batch.leaf_offsets[r + 1];
    if (begin == end) std::fill(row, row + hidden, 0.0f);
    for (int64_t i = 0; begin < end && i < hidden; ++i) {
      float sums[34];
      uint32_t differ[34];  // differ[n]: keys of sums[n] and sums[n + 1] at their border
      int depth = 0;
      for (int leaf = begin; leaf < end; ++leaf) {
        if (leaf > begin) {
          const uint32_t now = std::bit_floor(
              static_cast<uint32_t>(batch.leaf_keys[leaf] ^ batch.leaf_keys[leaf - 1]));
          for (; depth > 1 && differ[depth - 2] < now; --depth) sums[depth - 2] += sums[depth - 1];
          differ[depth - 1] = now;
        }
        sums[depth++] = in.f32()[batch.leaf_rows[leaf] * hidden + i];
      }
      for (; depth > 1; --depth) sums[depth - 2] += sums[depth - 1];
      row[i] = sums[0];
    }
  }
}

}  // namespace

std::unique_ptr<Ops> make_cpu_ops(const CpuOpsOptions& options) {
  BERYL_CHECK(is_supported(options.isa));
  return std::make_unique<CpuOps>(options);
}

}  // namespace beryl::kernels::cpu
