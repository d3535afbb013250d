#include "bench/model/planted_fault.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <utility>
#include <vector>

namespace beryl::bench {

namespace {

using kernels::TensorView;

class FaultyOps final : public kernels::Ops {
 public:
  FaultyOps(std::unique_ptr<kernels::Ops> ops, PlantedFault fault)
      : ops_(std::move(ops)), fault_(fault) {}

  void* allocate(size_t num_bytes) override { return ops_->allocate(num_bytes); }
  void free(void* memory) noexcept override { ops_->free(memory); }
  bool memory_is_host() const override { return ops_->memory_is_host(); }
  kernels::DType activation_dtype() const override { return ops_->activation_dtype(); }
  kernels::DType kv_dtype() const override { return ops_->kv_dtype(); }
  void upload(void* to, const void* from, size_t num_bytes) override {
    ops_->upload(to, from, num_bytes);
  }
  void download(void* to, const void* from, size_t num_bytes) override {
    ops_->download(to, from, num_bytes);
  }
  void copy(void* to, const void* from, size_t num_bytes) override {
    ops_->copy(to, from, num_bytes);
  }
  void fill_hashed(const kernels::HashedTensor& tensor, uint64_t first_index, uint16_t* out,
                   size_t count) override {
    ops_->fill_hashed(tensor, first_index, out, count);
  }

  void embed(const TensorView& table, const int32_t* ids, float scale,
             const TensorView& out) override {
    ops_->embed(table, ids, scale, out);
  }
  void rms_norm(const TensorView& x, const TensorView& weight, float eps,
                const TensorView& out) override {
    ops_->rms_norm(x, weight, eps, out);
  }
  void add_rms_norm(const TensorView& x, const TensorView& weight, float eps,
                    const TensorView& residual) override {
    const bool skip = fault_ == PlantedFault::kSkipPostNorm;
    ops_->add_rms_norm(x, skip ? TensorView{} : weight, eps, residual);
  }
  void linear(const TensorView& x, const TensorView& weight, const TensorView& out) override {
    ops_->linear(x, weight, out);
  }
  void attention_inputs(const kernels::AttentionShape& shape,
                        const kernels::AttentionWeights& weights, const TensorView& x,
                        const kernels::BatchView& batch, const kernels::KvCacheView& cache,
                        const TensorView& q) override {
    ops_->attention_inputs(shape, weights, x, batch, cache, q);
  }
  void attention(const kernels::AttentionShape& shape, const TensorView& q,
                 const kernels::BatchView& batch, const kernels::KvCacheView& cache,
                 const TensorView& out) override {
    kernels::BatchView changed = batch;
    if (fault_ == PlantedFault::kCausalSpans) changed.visible_end = nullptr;
    ops_->attention(shape, q, changed, cache, out);
  }
  void route(const kernels::RouterWeights& weights, const TensorView& x, float eps,
             const TensorView& topk_idx, const TensorView& topk_weights) override {
    ops_->route(weights, x, eps, topk_idx, topk_weights);
  }
  void gated_mlp(const kernels::GatedMlpWeights& weights, const TensorView& x,
                 const TensorView& out) override {
    ops_->gated_mlp(weights, x, out);
  }
  void group_by_expert(const TensorView& topk_idx, const TensorView& topk_weights,
                       const int32_t* slot_of, const kernels::ExpertGroups& groups) override {
    ops_->group_by_expert(topk_idx, topk_weights, slot_of, groups);
  }
  void expert_ffn(const kernels::ExpertWeights& weights, const TensorView& x,
                  const kernels::ExpertBatch& batch, const TensorView& out) override {
    ops_->expert_ffn(weights, x, batch, out);
  }

  // Leaves keep their order, but the tree is built over their number instead of the expert ids.
  void tree_sum(const TensorView& in, const kernels::TreeSumBatch& batch,
                const TensorView& out) override {
    if (fault_ != PlantedFault::kPermuteSum || batch.num_rows == 0) {
      ops_->tree_sum(in, batch, out);
      return;
    }
    std::vector<int32_t> offsets(static_cast<size_t>(batch.num_rows) + 1);
    ops_->download(offsets.data(), batch.leaf_offsets, offsets.size() * sizeof(int32_t));
    std::vector<int32_t> keys;
    for (size_t r = 0; r + 1 < offsets.size(); ++r) {
      for (int i = 0; i < offsets[r + 1] - offsets[r]; ++i) keys.push_back(i);
    }
    const size_t num_bytes = std::max<size_t>(keys.size(), 1) * sizeof(int32_t);
    void* const memory = ops_->allocate(num_bytes);
    ops_->upload(memory, keys.data(), keys.size() * sizeof(int32_t));
    kernels::TreeSumBatch permuted = batch;
    permuted.leaf_keys = static_cast<const int32_t*>(memory);
    ops_->tree_sum(in, permuted, out);
    ops_->free(memory);
  }

  void merge_ffn(const kernels::FfnMergeWeights& weights, const TensorView& dense,
                 const TensorView& experts, float eps, const TensorView& residual) override {
    kernels::FfnMergeWeights changed = weights;
    if (fault_ == PlantedFault::kSkipLayerScalar) changed.layer_scalar = 1;
    ops_->merge_ffn(changed, dense, experts, eps, residual);
  }
  void logits(const TensorView& x, const TensorView& table, float cap,
              const TensorView& out) override {
    ops_->logits(x, table, cap, out);
  }
  void sample(const TensorView& logits, const kernels::SamplingBatch& batch,
              kernels::SampledToken* sampled) override {
    ops_->sample(logits, batch, sampled);
  }

  void cut_patches(const kernels::ImageView* images, int num_images, int patch_size,
                   const TensorView& out) override {
    ops_->cut_patches(images, num_images, patch_size, out);
  }
  void add_patch_positions(const TensorView& table, const kernels::PatchBatch& batch,
                           const TensorView& x) override {
    ops_->add_patch_positions(table, batch, x);
  }
  // Grids are turned, so that columns count as rows.
  void patch_attention_inputs(const kernels::PatchAttentionShape& shape,
                              const kernels::AttentionWeights& weights, const TensorView& x,
                              const kernels::PatchBatch& batch,
                              const kernels::PatchQkv& out) override {
    std::vector<kernels::PatchGrid> grids(batch.grids, batch.grids + batch.num_images);
    if (fault_ == PlantedFault::kTurnGrids) {
      for (kernels::PatchGrid& grid : grids) std::swap(grid.width, grid.height);
    }
    ops_->patch_attention_inputs(shape, weights, x, {batch.num_images, grids.data()}, out);
  }
  void patch_attention(const kernels::PatchAttentionShape& shape, const kernels::PatchQkv& qkv,
                       const kernels::PatchBatch& batch, const TensorView& out) override {
    ops_->patch_attention(shape, qkv, batch, out);
  }
  void pool_patches(const kernels::PatchPooling& pooling, const TensorView& x,
                    const kernels::PatchBatch& batch, const TensorView& out) override {
    ops_->pool_patches(pooling, x, batch, out);
  }

 private:
  std::unique_ptr<kernels::Ops> ops_;
  PlantedFault fault_;
};

}  // namespace

PlantedFault parse_planted_fault(std::string_view name) {
  if (name == "none") return PlantedFault::kNone;
  if (name == "skip-layer-scalar") return PlantedFault::kSkipLayerScalar;
  if (name == "permute-sum") return PlantedFault::kPermuteSum;
  if (name == "skip-post-norm") return PlantedFault::kSkipPostNorm;
  if (name == "turn-grids") return PlantedFault::kTurnGrids;
  if (name == "causal-spans") return PlantedFault::kCausalSpans;
  throw std::invalid_argument(fmt::format("unknown fault \"{}\"", name));
}

std::unique_ptr<kernels::Ops> plant_fault(std::unique_ptr<kernels::Ops> ops, PlantedFault fault) {
  if (fault == PlantedFault::kNone) return ops;
  return std::make_unique<FaultyOps>(std::move(ops), fault);
}

}  // namespace beryl::bench
