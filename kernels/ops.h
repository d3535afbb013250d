// The one interface to arithmetic. worker/model is written once over it; kernels/cpu (and a CUDA
// back end) implement it. Operations are coarse, so that a back end may fuse.
//
// Conventions: row-major; T = rows (tokens) of this step on this rank, any of them may be 0;
// H = hidden_size. `Activation` tensors are float32 on the CPU. Weights are bfloat16, [out, in].
// A row's result depends on nothing but that row (and the cache it reads): never on T, on the other
// rows, on thread count or on how a prompt was cut (see "Same answer" in kernels/README.md).
// Errors: wrong shapes are mistakes of the caller (BERYL_CHECK); nothing here fails at run time.
#pragma once

#include <cstdint>

#include "kernels/sampling.h"
#include "kernels/tensor.h"
#include "kernels/vision.h"

namespace beryl::kernels {

// Block ids of every segment, concatenated. Segment s owns entries [offsets[s], offsets[s + 1]);
// its entry i is block number first_block[s] + i, where block b holds positions
// [b * block_size, (b + 1) * block_size) of the request. Sliding tables start at the first block
// that the window still reaches.
struct BlockTableView {
  const int32_t* block_ids = nullptr;    // [offsets[num_segments]]
  const int32_t* offsets = nullptr;      // [num_segments + 1]
  const int32_t* first_block = nullptr;  // [num_segments]
  int block_size = 0;                    // positions per block
};

// Rows of one step on this rank. A segment is a run of consecutive positions of one request.
struct BatchView {
  int num_rows = 0;                          // T
  int num_segments = 0;                      // S
  const int32_t* positions = nullptr;        // [T] position of each row in its request
  const int32_t* query_start_loc = nullptr;  // [S + 1] first row of each segment
  // [T] last position a row may see on sliding layers: its own for text, the end of the span inside
  // an image. Null: every row sees up to itself.
  const int32_t* visible_end = nullptr;
  BlockTableView global_blocks;
  BlockTableView sliding_blocks;
};

// Shape of one attention layer. Score scale is 1, there is no softcap (spec, section 3.4).
struct AttentionShape {
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int rotary_dim =
      0;  // rotated numbers per head: head_dim on sliding layers; 2 * 64 of 512 on global ones
  int window = 0;  // positions visible, the row itself included; 0 = all (global layer)
  float rms_norm_eps = 0;
  // [rotary_dim / 2] inverse frequencies; pair i rotates dimensions i and i + head_dim / 2
  const float* inv_freq = nullptr;

  bool is_global() const { return window == 0; }
  // Numbers kept per position and KV head: K and V on sliding layers; on global layers V and the
  // rotated part of K, because K = RoPE(k_norm.weight * V) there.
  int cached_dim() const { return is_global() ? head_dim + rotary_dim : 2 * head_dim; }
};

struct AttentionWeights {
  TensorView q_proj;  // [num_heads * head_dim, H] bf16
  TensorView k_proj;  // [num_kv_heads * head_dim, H] bf16
  TensorView v_proj;  // same shape; empty on global layers (V is the norm of k_proj's output)
  TensorView q_norm;  // [head_dim] bf16
  TensorView k_norm;  // [head_dim] bf16
};

// KV memory of one layer, float32 on the CPU.
// Sliding: [num_blocks, num_kv_heads, 2, block_size, head_dim], K then V.
// Global:  [num_blocks, num_kv_heads, block_size, head_dim + rotary_dim], V then rotated K with the
//          rotary_dim / 2 first-half dimensions before their partners.
struct KvCacheView {
  TensorView data;
};

struct RouterWeights {
  TensorView proj;              // [num_experts, H] bf16
  TensorView scale;             // [H] bf16
  TensorView per_expert_scale;  // [num_experts] bf16
};

struct GatedMlpWeights {
  TensorView gate_proj;  // [I, H] bf16
  TensorView up_proj;    // [I, H] bf16
  TensorView down_proj;  // [H, I] bf16
};

struct ExpertWeights {
  TensorView gate_up_proj;  // [num_local_experts, 2 * I, H] bf16, gate rows first
  TensorView down_proj;     // [num_local_experts, H, I] bf16
};

// Which rows go to which local expert. Sorted by expert, then by row.
struct ExpertBatch {
  int num_assignments = 0;                  // A
  const int32_t* expert_offsets = nullptr;  // [num_local_experts + 1] into the two arrays below
  const int32_t* row_idx = nullptr;         // [A] row of x
  const float* weight = nullptr;            // [A] routing weight
};

// Leaves of the sum trees of R output rows. Output row r sums leaves
// [leaf_offsets[r], leaf_offsets[r + 1]), sorted by key; a leaf is row leaf_rows[i] of the input
// and stands for the experts of one aligned node of the binary tree over expert ids, leaf_keys[i]
// being the first of them. Neighbours meet at their highest differing bit; absent experts are
// skipped. A row without leaves becomes 0.
struct TreeSumBatch {
  int num_rows = 0;                       // R
  const int32_t* leaf_offsets = nullptr;  // [R + 1]
  const int32_t* leaf_rows = nullptr;
  const int32_t* leaf_keys = nullptr;
};

struct FfnMergeWeights {
  TensorView dense_norm;    // [H] post_feedforward_layernorm_1
  TensorView experts_norm;  // [H] post_feedforward_layernorm_2
  TensorView post_norm;     // [H] post_feedforward_layernorm
  float layer_scalar = 1;
};

class Ops {
 public:
  virtual ~Ops() = default;

  // Memory that this back end's operations read and write, 64-byte aligned, zeroed; never null.
  virtual void* allocate(size_t num_bytes) = 0;
  virtual void free(void* memory) noexcept = 0;

  // out[t] = table[ids[t]] * scale. table [V, H] bf16, ids [T], out [T, H].
  virtual void embed(const TensorView& table, const int32_t* ids, float scale,
                     const TensorView& out) = 0;

  // out = x * (mean(x^2) + eps)^-1/2 * weight; an empty weight counts as ones. x, out [T, H].
  virtual void rms_norm(const TensorView& x, const TensorView& weight, float eps,
                        const TensorView& out) = 0;

  // residual += rms_norm(x) * weight. residual, x [T, H].
  virtual void add_rms_norm(const TensorView& x, const TensorView& weight, float eps,
                            const TensorView& residual) = 0;

  // out = x * weight^T. x [T, K], weight [N, K] bf16, out [T, N].
  virtual void linear(const TensorView& x, const TensorView& weight, const TensorView& out) = 0;

  // Projections, q/k/v norms and RoPE of rows x [T, H]; writes the KV cache at each row's position
  // and the queries q [T, num_heads, head_dim] ready for `attention` (on global layers the
  // unrotated dimensions are multiplied by k_norm.weight).
  virtual void attention_inputs(const AttentionShape& shape, const AttentionWeights& weights,
                                const TensorView& x, const BatchView& batch,
                                const KvCacheView& cache, const TensorView& q) = 0;

  // Softmax attention over the paged cache, this step's rows included (they are written already).
  // q [T, num_heads, head_dim] -> out [T, num_heads * head_dim].
  virtual void attention(const AttentionShape& shape, const TensorView& q, const BatchView& batch,
                         const KvCacheView& cache, const TensorView& out) = 0;

  // Router (spec, section 3.7) on the raw residual x [T, H]: topk_idx [T, top_k] int32 in order of
  // probability (ties: smaller id), topk_weights [T, top_k] float32, per-expert scale included.
  virtual void route(const RouterWeights& weights, const TensorView& x, float eps,
                     const TensorView& topk_idx, const TensorView& topk_weights) = 0;

  // out = down(gelu_tanh(gate(x)) * up(x)). x, out [T, H].
  virtual void gated_mlp(const GatedMlpWeights& weights, const TensorView& x,
                         const TensorView& out) = 0;

  // out[a] = weight[a] * Expert(x[row_idx[a]]). x [R, H], out [A, H] float32.
  virtual void expert_ffn(const ExpertWeights& weights, const TensorView& x,
                          const ExpertBatch& batch, const TensorView& out) = 0;

  // Sums in tree order, float32 (TreeSumBatch). in [*, H], out [R, H].
  virtual void tree_sum(const TensorView& in, const TreeSumBatch& batch, const TensorView& out) = 0;

  // residual = (residual + norm(norm(dense) + norm(experts))) * layer_scalar. All [T, H].
  virtual void merge_ffn(const FfnMergeWeights& weights, const TensorView& dense,
                         const TensorView& experts, float eps, const TensorView& residual) = 0;

  // out = cap * tanh(x * table^T / cap). x [S, H], table [V, H] bf16, out [S, V] float32.
  virtual void logits(const TensorView& x, const TensorView& table, float cap,
                      const TensorView& out) = 0;

  // One token a row (kernels/sampling.h). logits [S, V] float32, changed in place.
  virtual void sample(const TensorView& logits, const SamplingBatch& batch,
                      SampledToken* sampled) = 0;

  // The vision tower (kernels/vision.h). Sides of pictures and grids were checked by the caller.

  // Pixels of each patch, row by row, channels side by side, mapped from [0, 255] to [-1, 1]: p =
  // pixel * (1 / 255) in float32, then 2 * (p - 0.5). out [P, 3 * patch_size^2].
  virtual void cut_patches(const ImageView* images, int num_images, int patch_size,
                           const TensorView& out) = 0;

  // x += table[0][column] + table[1][row]. table [2, N, H] bf16, sides of grids <= N; x [P, H].
  virtual void add_patch_positions(const TensorView& table, const PatchBatch& batch,
                                   const TensorView& x) = 0;

  // Projections and norms of rows x [P, H] (that of V has no weight), RoPE of q and k.
  virtual void patch_attention_inputs(const PatchAttentionShape& shape,
                                      const AttentionWeights& weights, const TensorView& x,
                                      const PatchBatch& batch, const PatchQkv& out) = 0;

  // Softmax attention within each picture. Memory grows with P, not with its square.
  // out [P, num_heads * head_dim].
  virtual void patch_attention(const PatchAttentionShape& shape, const PatchQkv& qkv,
                               const PatchBatch& batch, const TensorView& out) = 0;

  // x [P, H] -> out [P / kernel_size^2, H], soft tokens row by row of each picture.
  virtual void pool_patches(const PatchPooling& pooling, const TensorView& x,
                            const PatchBatch& batch, const TensorView& out) = 0;
};

}  // namespace beryl::kernels
