// The one interface to arithmetic. worker/model is written once over it; kernels/cpu (and a CUDA
// back end) implement it. Operations are coarse, so that a back end may fuse.
//
// Conventions: row-major; T = rows (tokens) of this step on this rank, any of them may be 0;
// H = hidden_size. Weights are bfloat16, [out, in].
//
// Memory: whatever a view of tensors or arrays points to lies in memory of the back end (allocate),
// filled with upload() and read with download(), unless it is marked "host" below. Where
// memory_is_host(), that is any memory. Numbers in the views themselves (counts, sizes) are host
// values: launches are sized from them without asking the device.
//
// Types: the residual stream, block outputs, expert results and logits are float32 everywhere.
// Inputs of matrix products (results of rms_norm, q, attention's result) are activation_dtype(),
// the KV cache is kv_dtype(): float32 on the CPU, bfloat16 on CUDA. Operations take the dtype of
// their inputs and outputs from the views where a comment says "any" (float32 or bfloat16).
//
// On the CPU a row's result depends on nothing but that row (and the cache it reads): never on T,
// on the other rows, on thread count or on how a prompt was cut ("Same answer" in
// kernels/README.md).
// Errors: wrong shapes are mistakes of the caller (BERYL_CHECK). A device that fails throws
// DeviceError (device_error.h) from any call after the fault; only destruction is allowed then.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>

#include "kernels/hashed_weights.h"
#include "kernels/sampling.h"
#include "kernels/step_key.h"
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
  // For back ends whose memory is not the host's; others look at none of these three.
  const int32_t* row_segments = nullptr;  // [T] segment of each row
  int max_segment_rows = 0;               // rows of the longest segment
  int32_t max_position = 0;               // at least the largest position that a row sees
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
  // Host: [rotary_dim / 2] inverse frequencies; pair i rotates dimensions i and i + head_dim / 2
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

// KV memory of one layer, of Ops::kv_dtype().
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

// Which rows go to which local expert. Sorted by expert, then by row. Assignments beyond
// expert_offsets[num_local_experts] are unused.
struct ExpertBatch {
  int num_assignments = 0;                  // A, room in the two arrays below
  const int32_t* expert_offsets = nullptr;  // [num_local_experts + 1] into the two arrays below
  const int32_t* row_idx = nullptr;         // [A] row of x
  const float* weight = nullptr;            // [A] routing weight
};

// Leaves of the sum trees of R output rows. Output row r sums leaves
// [leaf_offsets[r], leaf_offsets[r + 1]), sorted by key; a leaf is row leaf_rows[i] of the input
// and stands for the experts of one aligned node of the binary tree over expert ids, leaf_keys[i]
// being the first of them. Neighbours meet at their highest differing bit; absent experts are
// skipped. A negative leaf row is no leaf. A row without leaves becomes 0.
struct TreeSumBatch {
  int num_rows = 0;                       // R
  const int32_t* leaf_offsets = nullptr;  // [R + 1]
  const int32_t* leaf_rows = nullptr;
  const int32_t* leaf_keys = nullptr;
  int leaves_per_row = 0;  // host; if positive, leaf_offsets[r] is r times that
};

// What group_by_expert writes: the arrays of an ExpertBatch over all assignments of T rows to
// experts held here, and of the TreeSumBatch that sums the results of each row.
struct ExpertGroups {
  int num_local_experts = 0;
  int32_t* expert_offsets = nullptr;  // [num_local_experts + 1]
  int32_t* row_idx = nullptr;         // [T * top_k]
  float* weight = nullptr;            // [T * top_k]
  int32_t* leaf_offsets = nullptr;    // [T + 1] r * top_k
  int32_t* leaf_rows = nullptr;       // [T * top_k] assignment, -1 where a row has fewer
  int32_t* leaf_keys = nullptr;       // [T * top_k] expert id, ascending in each row
  int64_t* load = nullptr;            // [num_local_experts] grows by the rows of each expert
};

struct FfnMergeWeights {
  TensorView dense_norm;    // [H] post_feedforward_layernorm_1
  TensorView experts_norm;  // [H] post_feedforward_layernorm_2
  TensorView post_norm;     // [H] post_feedforward_layernorm
  float layer_scalar = 1;
};

// A norm of the residual that an operation has just completed: out = rms_norm(residual) * weight.
struct NormOutput {
  TensorView weight;  // [H] bf16
  TensorView out;     // [T, H] any
};

// Sums of expert results in tree order, and room for them.
struct ExpertSums {
  TensorView results;  // [*, H] float32
  TreeSumBatch batch;  // of all T rows
  TensorView sums;     // [T, H] float32: what becomes of it is left open
};

// Writes bytes [offset, offset + num_bytes) of what is uploaded.
using UploadSource = std::function<void(size_t offset, std::byte* to, size_t num_bytes)>;

class Ops {
 public:
  virtual ~Ops() = default;

  // Memory that this back end's operations read and write, 64-byte aligned, zeroed; never null.
  virtual void* allocate(size_t num_bytes) = 0;
  virtual void free(void* memory) noexcept = 0;
  // True where host code may read and write that memory itself.
  virtual bool memory_is_host() const { return true; }
  virtual DType activation_dtype() const { return DType::kFloat32; }
  virtual DType kv_dtype() const { return DType::kFloat32; }

  // Copies between host memory and memory of the back end, in the order of operations. upload: any
  // thread; `from` may change as soon as it returns. download: waits for what was started before.
  virtual void upload(void* to, const void* from, size_t num_bytes) {
    std::memcpy(to, from, num_bytes);
  }
  // upload of what `fill` writes, part by part, without a copy of it all on the host. Any thread.
  virtual void upload_from(void* to, size_t num_bytes, const UploadSource& fill) {
    fill(0, static_cast<std::byte*>(to), num_bytes);
  }
  virtual void download(void* to, const void* from, size_t num_bytes) {
    std::memcpy(to, from, num_bytes);
  }

  // From memory of the back end to other memory of it.
  virtual void copy(void* to, const void* from, size_t num_bytes) {
    std::memcpy(to, from, num_bytes);
  }

  // out[i] = bf16 weight number first_index + i of a hashed tensor. Any thread.
  virtual void fill_hashed(const HashedTensor& tensor, uint64_t first_index, uint16_t* out,
                           size_t count) {
    for (size_t i = 0; i < count; ++i) out[i] = hashed_weight(tensor, first_index + i);
  }

  // Runs `launch`, which calls operations below on memory that is there already, and nothing else
  // of this object. A back end may keep what it launched and launch that again when the key comes
  // back, without calling `launch`.
  virtual void run_repeatable(const StepKey& /*key*/, const std::function<void()>& launch) {
    launch();
  }

  // out[t] = table[ids[t]] * scale. table [V, H] bf16, ids [T], out [T, H] float32.
  virtual void embed(const TensorView& table, const int32_t* ids, float scale,
                     const TensorView& out) = 0;

  // out = x * (mean(x^2) + eps)^-1/2 * weight; an empty weight counts as ones. x [T, H] float32,
  // out [T, H] any.
  virtual void rms_norm(const TensorView& x, const TensorView& weight, float eps,
                        const TensorView& out) = 0;

  // residual += rms_norm(x) * weight. residual, x [T, H] float32.
  virtual void add_rms_norm(const TensorView& x, const TensorView& weight, float eps,
                            const TensorView& residual) = 0;

  // add_rms_norm, then the norms of the residual.
  virtual void add_rms_norm_then(const TensorView& x, const TensorView& weight, float eps,
                                 const TensorView& residual, std::span<const NormOutput> norms) {
    add_rms_norm(x, weight, eps, residual);
    for (const NormOutput& norm : norms) rms_norm(residual, norm.weight, eps, norm.out);
  }

  // out = x * weight^T. x [T, K] activation, weight [N, K] bf16, out [T, N] float32.
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

  // out = down(gelu_tanh(gate(x)) * up(x)). x [T, H] activation, out [T, H] float32.
  virtual void gated_mlp(const GatedMlpWeights& weights, const TensorView& x,
                         const TensorView& out) = 0;

  // Sorts the assignments of T rows. topk_idx, topk_weights [T, top_k] as from route(), -1 =
  // unused; slot_of [num_experts] local slot of each expert, -1 = not held here.
  virtual void group_by_expert(const TensorView& topk_idx, const TensorView& topk_weights,
                               const int32_t* slot_of, const ExpertGroups& groups) = 0;

  // route, then group_by_expert.
  virtual void route_and_group(const RouterWeights& weights, const TensorView& x, float eps,
                               const TensorView& topk_idx, const TensorView& topk_weights,
                               const int32_t* slot_of, const ExpertGroups& groups) {
    route(weights, x, eps, topk_idx, topk_weights);
    group_by_expert(topk_idx, topk_weights, slot_of, groups);
  }

  // out[a] = weight[a] * Expert(x[row_idx[a]]). x [R, H] activation, out [A, H] float32.
  virtual void expert_ffn(const ExpertWeights& weights, const TensorView& x,
                          const ExpertBatch& batch, const TensorView& out) = 0;

  // Sums in tree order (TreeSumBatch). in [*, H], out [R, H], float32.
  virtual void tree_sum(const TensorView& in, const TreeSumBatch& batch, const TensorView& out) = 0;

  // residual = (residual + norm(norm(dense) + norm(experts))) * layer_scalar. All [T, H] float32.
  virtual void merge_ffn(const FfnMergeWeights& weights, const TensorView& dense,
                         const TensorView& experts, float eps, const TensorView& residual) = 0;

  // merge_ffn with the tree sums of `experts`, then the norms of the residual.
  virtual void sum_and_merge_ffn(const FfnMergeWeights& weights, const TensorView& dense,
                                 const ExpertSums& experts, float eps, const TensorView& residual,
                                 std::span<const NormOutput> norms) {
    tree_sum(experts.results, experts.batch, experts.sums);
    merge_ffn(weights, dense, experts.sums, eps, residual);
    for (const NormOutput& norm : norms) rms_norm(residual, norm.weight, eps, norm.out);
  }

  // out = cap * tanh(x * table^T / cap). x [S, H] activation, table [V, H] bf16, out [S, V]
  // float32.
  virtual void logits(const TensorView& x, const TensorView& table, float cap,
                      const TensorView& out) = 0;

  // One token a row (kernels/sampling.h). logits [S, V] float32, changed in place. Host: the batch
  // and what its rows point to, free to change on return. sampled [S], memory of the back end.
  virtual void sample(const TensorView& logits, const SamplingBatch& batch,
                      SampledToken* sampled) = 0;

  // The vision tower (kernels/vision.h). Sides of pictures and grids were checked by the caller.
  // Host: pixels, grids, inverse frequencies, free to change on return.

  // Pixels of each patch, row by row, channels side by side, mapped from [0, 255] to [-1, 1]: p =
  // pixel * (1 / 255) in float32, then 2 * (p - 0.5). out [P, 3 * patch_size^2]: activation, on
  // CUDA any.
  virtual void cut_patches(const ImageView* images, int num_images, int patch_size,
                           const TensorView& out) = 0;

  // x += table[0][column] + table[1][row]. table [2, N, H] bf16, sides of grids <= N; x [P, H]
  // float32.
  virtual void add_patch_positions(const TensorView& table, const PatchBatch& batch,
                                   const TensorView& x) = 0;

  // Projections and norms of rows x [P, H] (that of V has no weight), RoPE of q and k. Rows,
  // results and what attention makes of them are activations.
  virtual void patch_attention_inputs(const PatchAttentionShape& shape,
                                      const AttentionWeights& weights, const TensorView& x,
                                      const PatchBatch& batch, const PatchQkv& out) = 0;

  // Softmax attention within each picture. Memory grows with P, not with its square.
  // out [P, num_heads * head_dim].
  virtual void patch_attention(const PatchAttentionShape& shape, const PatchQkv& qkv,
                               const PatchBatch& batch, const TensorView& out) = 0;

  // x [P, H] -> out [P / kernel_size^2, H], float32, soft tokens row by row of each picture.
  virtual void pool_patches(const PatchPooling& pooling, const TensorView& x,
                            const PatchBatch& batch, const TensorView& out) = 0;
};

}  // namespace beryl::kernels
