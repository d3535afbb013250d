#include "kernels/cpu/cpu_ops.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/attention_inputs.h"
#include "kernels/cpu/context.h"
#include "kernels/cpu/expert_groups.h"
#include "kernels/cpu/ffn.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/patch_attention.h"
#include "kernels/cpu/patches.h"
#include "kernels/cpu/router.h"
#include "kernels/cpu/sampling.h"
#include "kernels/cpu/tree_sum.h"

namespace beryl::kernels::cpu {
namespace {

constexpr int64_t kParallelRows = 4;        // rows from which row operations use all threads
constexpr int64_t kParallelCols = 1 << 14;  // the same for columns

const uint16_t* optional_bf16(const TensorView& weight) {
  return weight.empty() ? nullptr : weight.bf16();
}

void check_matrix(const TensorView& tensor, int64_t num_rows, int64_t num_cols) {
  BERYL_CHECK(tensor.num_dims >= 2 && tensor.shape[0] == num_rows);
  BERYL_CHECK(tensor.num_elements() == num_rows * num_cols);
}

class CpuOps final : public Ops {
 public:
  explicit CpuOps(const CpuOpsOptions& options)
      : pool_(options.num_threads),
        context_{kernel_table(options.isa), pool_},
        ffn_(context_),
        attention_inputs_(context_),
        attention_(context_),
        patches_(context_),
        patch_attention_(context_),
        sampling_(static_cast<size_t>(options.num_threads)) {}

  void* allocate(size_t num_bytes) override;
  void free(void* memory) noexcept override { std::free(memory); }

  void embed(const TensorView& table, const int32_t* ids, float scale,
             const TensorView& out) override;
  void rms_norm(const TensorView& x, const TensorView& weight, float eps,
                const TensorView& out) override;
  void add_rms_norm(const TensorView& x, const TensorView& weight, float eps,
                    const TensorView& residual) override;
  void linear(const TensorView& x, const TensorView& weight, const TensorView& out) override;
  void attention_inputs(const AttentionShape& shape, const AttentionWeights& weights,
                        const TensorView& x, const BatchView& batch, const KvCacheView& cache,
                        const TensorView& q) override;
  void attention(const AttentionShape& shape, const TensorView& q, const BatchView& batch,
                 const KvCacheView& cache, const TensorView& out) override;
  void route(const RouterWeights& weights, const TensorView& x, float eps,
             const TensorView& topk_idx, const TensorView& topk_weights) override;
  void gated_mlp(const GatedMlpWeights& weights, const TensorView& x,
                 const TensorView& out) override;
  void group_by_expert(const TensorView& topk_idx, const TensorView& topk_weights,
                       const int32_t* slot_of, const ExpertGroups& groups) override {
    cpu::group_by_expert(topk_idx, topk_weights, slot_of, groups);
  }
  void expert_ffn(const ExpertWeights& weights, const TensorView& x, const ExpertBatch& batch,
                  const TensorView& out) override;
  void tree_sum(const TensorView& in, const TreeSumBatch& batch, const TensorView& out) override;
  void merge_ffn(const FfnMergeWeights& weights, const TensorView& dense, const TensorView& experts,
                 float eps, const TensorView& residual) override;
  void logits(const TensorView& x, const TensorView& table, float cap,
              const TensorView& out) override;
  void sample(const TensorView& logits, const SamplingBatch& batch, SampledToken* sampled) override;
  void cut_patches(const ImageView* images, int num_images, int patch_size,
                   const TensorView& out) override {
    patches_.cut(images, num_images, patch_size, out);
  }
  void add_patch_positions(const TensorView& table, const PatchBatch& batch,
                           const TensorView& x) override {
    patches_.add_positions(table, batch, x);
  }
  void patch_attention_inputs(const PatchAttentionShape& shape, const AttentionWeights& weights,
                              const TensorView& x, const PatchBatch& batch,
                              const PatchQkv& out) override;
  void patch_attention(const PatchAttentionShape& shape, const PatchQkv& qkv,
                       const PatchBatch& batch, const TensorView& out) override {
    patch_attention_.run(shape, qkv, batch, out);
  }
  void pool_patches(const PatchPooling& pooling, const TensorView& x, const PatchBatch& batch,
                    const TensorView& out) override {
    patches_.pool(pooling, x, batch, out);
  }

 private:
  // Calls body(row) for each of num_rows rows, over the threads when there are enough.
  template <typename Body>
  void for_rows(int64_t num_rows, const Body& body) {
    pool_.parallel_for(num_rows, kParallelRows, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) body(row);
    });
  }

  ThreadPool pool_;
  Context context_;
  PackedRows packed_;
  Scratch scratch_;
  Ffn ffn_;
  AttentionInputs attention_inputs_;
  Attention attention_;
  Patches patches_;
  PatchAttention patch_attention_;
  std::vector<const float*> expert_rows_;
  std::vector<FfnJob> expert_jobs_;
  std::vector<SamplingScratch> sampling_;  // [num_threads]
};

void* CpuOps::allocate(size_t num_bytes) {
  const size_t rounded = (std::max<size_t>(num_bytes, 1) + 63) / 64 * 64;
  void* memory = std::aligned_alloc(64, rounded);
  BERYL_CHECK(memory != nullptr);
  std::memset(memory, 0, rounded);
  return memory;
}

void CpuOps::embed(const TensorView& table, const int32_t* ids, float scale,
                   const TensorView& out) {
  const int64_t hidden = table.shape[1];
  check_matrix(out, out.shape[0], hidden);
  for_rows(out.shape[0], [&](int64_t t) {
    BERYL_CHECK(ids[t] >= 0 && ids[t] < table.shape[0]);
    context_.kernels.embed_row(table.bf16() + ids[t] * hidden, scale, static_cast<int>(hidden),
                               out.f32() + t * hidden);
  });
}

void CpuOps::rms_norm(const TensorView& x, const TensorView& weight, float eps,
                      const TensorView& out) {
  const int64_t n = x.shape[1];
  check_matrix(out, x.shape[0], n);
  for_rows(x.shape[0], [&](int64_t t) {
    context_.kernels.norm_row(x.f32() + t * n, optional_bf16(weight), static_cast<int>(n), eps,
                              out.f32() + t * n);
  });
}

void CpuOps::add_rms_norm(const TensorView& x, const TensorView& weight, float eps,
                          const TensorView& residual) {
  const int64_t rows = x.shape[0];
  const auto n = static_cast<int>(x.shape[1]);
  check_matrix(residual, rows, n);
  float* normed = scratch_.reserve(rows * n);
  for_rows(rows, [&](int64_t t) {
    float* to = residual.f32() + t * n;
    context_.kernels.norm_row(x.f32() + t * n, optional_bf16(weight), n, eps, normed + t * n);
    context_.kernels.add_rows(to, normed + t * n, n, to);
  });
}

void CpuOps::linear(const TensorView& x, const TensorView& weight, const TensorView& out) {
  const int64_t k = weight.shape[1];
  check_matrix(x, x.shape[0], k);
  check_matrix(out, x.shape[0], weight.shape[0]);
  packed_.pack(context_, x.f32(), x.shape[0], k);
  const LinearJob job = {weight.bf16(), weight.shape[0], out.f32()};
  run_linears(context_, packed_, k, {&job, 1});
}

void CpuOps::attention_inputs(const AttentionShape& shape, const AttentionWeights& weights,
                              const TensorView& x, const BatchView& batch, const KvCacheView& cache,
                              const TensorView& q) {
  const int64_t hidden = weights.q_proj.shape[1];
  check_matrix(x, batch.num_rows, hidden);
  BERYL_CHECK(q.num_elements() == int64_t{batch.num_rows} * shape.num_heads * shape.head_dim);
  packed_.pack(context_, x.f32(), batch.num_rows, hidden);
  attention_inputs_.run(shape, weights, packed_, batch, cache, q.f32());
}

void CpuOps::attention(const AttentionShape& shape, const TensorView& q, const BatchView& batch,
                       const KvCacheView& cache, const TensorView& out) {
  BERYL_CHECK(q.num_elements() == out.num_elements());
  attention_.run(shape, q, batch, cache, out);
}

void CpuOps::patch_attention_inputs(const PatchAttentionShape& shape,
                                    const AttentionWeights& weights, const TensorView& x,
                                    const PatchBatch& batch, const PatchQkv& out) {
  const int64_t hidden = weights.q_proj.shape[1];
  check_matrix(x, batch.num_patches(), hidden);
  packed_.pack(context_, x.f32(), x.shape[0], hidden);
  patch_attention_.compute_inputs(shape, weights, packed_, batch, out);
}

void CpuOps::route(const RouterWeights& weights, const TensorView& x, float eps,
                   const TensorView& topk_idx, const TensorView& topk_weights) {
  const int64_t rows = x.shape[0];
  const int64_t hidden = x.shape[1];
  const int64_t num_experts = weights.proj.shape[0];
  const int64_t top_k = topk_idx.shape[1];
  check_matrix(weights.proj, num_experts, hidden);
  check_matrix(topk_weights, rows, top_k);
  const float root = static_cast<float>(1.0 / std::sqrt(static_cast<double>(hidden)));
  float* scaled = scratch_.reserve(rows * (hidden + num_experts));
  float* scores = scaled + rows * hidden;
  for_rows(rows, [&](int64_t t) {
    float* row = scaled + t * hidden;
    const auto n = static_cast<int>(hidden);
    context_.kernels.norm_row(x.f32() + t * hidden, nullptr, n, eps, row);
    context_.kernels.mul_weight(weights.scale.bf16(), root, n, row);
  });
  packed_.pack(context_, scaled, rows, hidden);
  const LinearJob job = {weights.proj.bf16(), num_experts, scores};
  run_linears(context_, packed_, hidden, {&job, 1});
  for_rows(rows, [&](int64_t t) {
    choose_experts({scores + t * num_experts, static_cast<int>(num_experts),
                    static_cast<int>(top_k), weights.per_expert_scale.bf16(),
                    topk_idx.as<int32_t>() + t * top_k, topk_weights.f32() + t * top_k});
  });
}

void CpuOps::gated_mlp(const GatedMlpWeights& weights, const TensorView& x, const TensorView& out) {
  const int64_t rows = x.shape[0];
  const int64_t hidden = weights.gate_proj.shape[1];
  const int64_t width = weights.gate_proj.shape[0];
  check_matrix(x, rows, hidden);
  check_matrix(out, rows, hidden);
  check_matrix(weights.up_proj, width, hidden);
  check_matrix(weights.down_proj, hidden, width);
  if (rows == 0) return;
  packed_.pack(context_, x.f32(), rows, hidden);
  const FfnJob job = {weights.gate_proj.bf16(), weights.up_proj.bf16(), weights.down_proj.bf16(), 0,
                      rows};
  ffn_.run({packed_.rows(), rows, hidden, width, out.f32(), nullptr}, {&job, 1});
}

void CpuOps::expert_ffn(const ExpertWeights& weights, const TensorView& x, const ExpertBatch& batch,
                        const TensorView& out) {
  const int64_t num_experts = weights.down_proj.shape[0];
  const int64_t hidden = weights.down_proj.shape[1];
  const int64_t width = weights.down_proj.shape[2];
  if (batch.num_assignments == 0) return;
  const int64_t num_rows = batch.expert_offsets[num_experts];
  BERYL_CHECK(num_rows <= batch.num_assignments);
  if (num_rows == 0) return;
  BERYL_CHECK(x.shape[1] == hidden && out.shape[1] == hidden && out.shape[0] >= num_rows);
  packed_.pack(context_, x.f32(), x.shape[0], hidden);
  expert_rows_.resize(static_cast<size_t>(num_rows));
  for (int64_t a = 0; a < num_rows; ++a) {
    BERYL_CHECK(batch.row_idx[a] >= 0 && batch.row_idx[a] < x.shape[0]);
    expert_rows_[static_cast<size_t>(a)] = packed_.row(batch.row_idx[a]);
  }
  expert_jobs_.clear();
  for (int64_t e = 0; e < num_experts; ++e) {
    const int64_t first = batch.expert_offsets[e];
    const int64_t count = batch.expert_offsets[e + 1] - first;
    if (count == 0) continue;
    const uint16_t* gate = weights.gate_up_proj.bf16() + e * 2 * width * hidden;
    const uint16_t* down = weights.down_proj.bf16() + e * hidden * width;
    expert_jobs_.push_back({gate, gate + width * hidden, down, first, count});
  }
  ffn_.run({expert_rows_.data(), num_rows, hidden, width, out.f32(), batch.weight}, expert_jobs_);
}

void CpuOps::tree_sum(const TensorView& in, const TreeSumBatch& batch, const TensorView& out) {
  for_rows(batch.num_rows, [&](int64_t row) {
    tree_sum_row(context_.kernels, in.f32(), batch, static_cast<int>(row), out);
  });
}

void CpuOps::merge_ffn(const FfnMergeWeights& weights, const TensorView& dense,
                       const TensorView& experts, float eps, const TensorView& residual) {
  const int64_t rows = dense.shape[0];
  const auto n = static_cast<int>(dense.shape[1]);
  check_matrix(experts, rows, n);
  check_matrix(residual, rows, n);
  float* scratch = scratch_.reserve(2 * rows * n);
  const KernelTable& kernels = context_.kernels;
  for_rows(rows, [&](int64_t t) {
    float* a = scratch + 2 * t * n;
    float* b = a + n;
    float* to = residual.f32() + t * n;
    kernels.norm_row(dense.f32() + t * n, weights.dense_norm.bf16(), n, eps, a);
    kernels.norm_row(experts.f32() + t * n, weights.experts_norm.bf16(), n, eps, b);
    kernels.add_rows(a, b, n, a);
    kernels.norm_row(a, weights.post_norm.bf16(), n, eps, b);
    kernels.add_scale_rows(to, b, weights.layer_scalar, n, to);
  });
}

void CpuOps::logits(const TensorView& x, const TensorView& table, float cap,
                    const TensorView& out) {
  linear(x, table, out);
  pool_.parallel_for(out.num_elements(), kParallelCols, [&](int64_t begin, int64_t end) {
    context_.kernels.softcap_row(out.f32() + begin, cap, static_cast<int>(end - begin));
  });
}

void CpuOps::sample(const TensorView& logits, const SamplingBatch& batch, SampledToken* sampled) {
  const int64_t vocab_size = logits.shape[1];
  BERYL_CHECK(logits.shape[0] >= batch.num_rows);
  pool_.run([&](int thread_idx) {
    for (int s = thread_idx; s < batch.num_rows; s += pool_.num_threads()) {
      sampled[s] =
          sample_row(context_.kernels, batch.rows[s], logits.f32() + s * vocab_size,
                     static_cast<int32_t>(vocab_size), sampling_[static_cast<size_t>(thread_idx)]);
    }
  });
}

}  // namespace

std::unique_ptr<Ops> make_cpu_ops(const CpuOpsOptions& options) {
  BERYL_CHECK(options.num_threads >= 1 && is_supported(options.isa));
  return std::make_unique<CpuOps>(options);
}

}  // namespace beryl::kernels::cpu
