// The part of Ops that the expert exchange needs, as plain loops. Experts are made up: expert e
// maps x to values that differ for each e and depend on all of x.
#pragma once

#include <cstdlib>
#include <cstring>

#include "kernels/ops.h"

namespace beryl::expert {

class ScalarOps : public kernels::Ops {
 public:
  using TensorView = kernels::TensorView;

  void* allocate(size_t num_bytes) override {
    ++num_allocations_;
    const size_t rounded = (num_bytes + 63) / 64 * 64;
    void* const memory = std::aligned_alloc(64, rounded);
    std::memset(memory, 0, rounded);
    return memory;
  }
  void free(void* memory) noexcept override { std::free(memory); }
  int num_allocations() const { return num_allocations_; }

  void tree_sum(const TensorView& in, const kernels::TreeSumBatch& batch,
                const TensorView& out) override;

  void embed(const TensorView&, const int32_t*, float, const TensorView&) override { unused(); }
  void rms_norm(const TensorView&, const TensorView&, float, const TensorView&) override {
    unused();
  }
  void add_rms_norm(const TensorView&, const TensorView&, float, const TensorView&) override {
    unused();
  }
  void linear(const TensorView&, const TensorView&, const TensorView&) override { unused(); }
  void attention_inputs(const kernels::AttentionShape&, const kernels::AttentionWeights&,
                        const TensorView&, const kernels::BatchView&, const kernels::KvCacheView&,
                        const TensorView&) override {
    unused();
  }
  void attention(const kernels::AttentionShape&, const TensorView&, const kernels::BatchView&,
                 const kernels::KvCacheView&, const TensorView&) override {
    unused();
  }
  void route(const kernels::RouterWeights&, const TensorView&, float, const TensorView&,
             const TensorView&) override {
    unused();
  }
  void gated_mlp(const kernels::GatedMlpWeights&, const TensorView&, const TensorView&) override {
    unused();
  }
  void group_by_expert(const TensorView&, const TensorView&, const int32_t*,
                       const kernels::ExpertGroups&) override {
    unused();
  }
  void expert_ffn(const kernels::ExpertWeights&, const TensorView&, const kernels::ExpertBatch&,
                  const TensorView&) override {
    unused();
  }
  void merge_ffn(const kernels::FfnMergeWeights&, const TensorView&, const TensorView&, float,
                 const TensorView&) override {
    unused();
  }
  void logits(const TensorView&, const TensorView&, float, const TensorView&) override { unused(); }
  void sample(const TensorView&, const kernels::SamplingBatch&, kernels::SampledToken*) override {
    unused();
  }
  void cut_patches(const kernels::ImageView*, int, int, const TensorView&) override { unused(); }
  void add_patch_positions(const TensorView&, const kernels::PatchBatch&,
                           const TensorView&) override {
    unused();
  }
  void patch_attention_inputs(const kernels::PatchAttentionShape&, const kernels::AttentionWeights&,
                              const TensorView&, const kernels::PatchBatch&,
                              const kernels::PatchQkv&) override {
    unused();
  }
  void patch_attention(const kernels::PatchAttentionShape&, const kernels::PatchQkv&,
                       const kernels::PatchBatch&, const TensorView&) override {
    unused();
  }
  void pool_patches(const kernels::PatchPooling&, const TensorView&, const kernels::PatchBatch&,
                    const TensorView&) override {
    unused();
  }

 private:
  [[noreturn]] static void unused() { std::abort(); }

  int num_allocations_ = 0;
};

// out[H] = weight * expert(x[H]).
void run_made_up_expert(int expert, const float* x, float weight, int hidden_size, float* out);

}  // namespace beryl::expert
