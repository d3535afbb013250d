#include "kernels/cuda/cuda_ops.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/active_stream.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_inputs.h"
#include "kernels/cuda/dense_matmul.h"
#include "kernels/cuda/device_buffer.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/norms.h"
#include "kernels/cuda/patch_grids.h"
#include "kernels/cuda/patches.h"
#include "kernels/cuda/pinned_buffer.h"
#include "kernels/cuda/routing.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/sampling.h"
#include "kernels/cuda/sampling_batch.h"
#include "kernels/cuda/staging.h"
#include "kernels/cuda/step_graphs.h"
#include "kernels/cuda/stream.h"

namespace beryl::kernels::cuda {
namespace {

constexpr int64_t kMaxRows = 65'535;        // rows are a dimension of grids
constexpr int64_t kRowUnit = 8;             // numbers of a row: loads are 16 bytes
constexpr size_t kDownloadBytes = 1 << 20;  // up to a row of logits

void check_rows(const TensorView& tensor, DType dtype, int64_t num_rows, int64_t num_cols) {
  BERYL_CHECK(tensor.num_dims >= 2 && tensor.dtype == dtype);
  BERYL_CHECK(tensor.shape[0] == num_rows && tensor.num_elements() == num_rows * num_cols);
  BERYL_CHECK(num_rows <= kMaxRows && num_cols % kRowUnit == 0);
  BERYL_CHECK(reinterpret_cast<uintptr_t>(tensor.data) % 16 == 0);
}

void check_norm_weight(const TensorView& weight, int64_t n) {
  BERYL_CHECK(weight.empty() || (weight.dtype == DType::kBFloat16 && weight.num_elements() == n));
  BERYL_CHECK(reinterpret_cast<uintptr_t>(weight.data) % 16 == 0);
}

// Norms that one kernel computes together with what comes before; nothing where it cannot.
std::optional<NormsThen> norms_then(std::span<const NormOutput> norms, int64_t rows, int64_t n) {
  if (norms.size() > kMaxNormsThen) return std::nullopt;
  NormsThen then;
  for (const NormOutput& norm : norms) {
    if (norm.out.dtype != DType::kBFloat16 || norm.weight.empty()) return std::nullopt;
    check_rows(norm.out, DType::kBFloat16, rows, n);
    check_norm_weight(norm.weight, n);
    then.weight[then.count] = norm.weight.bf16();
    then.out[then.count++] = norm.out.as<uint16_t>();
  }
  return then;
}

void check_merge(const FfnMergeWeights& weights, const TensorView& dense,
                 const TensorView& residual) {
  const int64_t n = dense.shape[1];
  check_rows(dense, DType::kFloat32, dense.shape[0], n);
  check_rows(residual, DType::kFloat32, dense.shape[0], n);
  for (const TensorView* weight :
       {&weights.dense_norm, &weights.experts_norm, &weights.post_norm}) {
    BERYL_CHECK(!weight->empty());
    check_norm_weight(*weight, n);
  }
  BERYL_CHECK(n <= kMaxNormWidth);
}

void warn_on_stderr(const std::string& line) {
  std::fprintf(stderr, "warning: %s\n", line.c_str());
}

class CudaOps final : public Ops {
 public:
  CudaOps(const CudaOpsOptions& options, const DeviceInfo& info)
      : options_(options),
        limits_{info.num_sms, info.max_shared_bytes, info.has_wgmma && !options.without_wgmma},
        staging_(options.device),
        graphs_(options.warn ? options.warn : warn_on_stderr) {
    if (!options.without_cublas) dense_.emplace();
    BERYL_CUDA(cudaMemsetAsync(tickets(), 0, sizeof(unsigned), main_stream_.get()));
  }
  ~CudaOps() override { (void)cudaStreamSynchronize(main_stream_.get()); }

  void* allocate(size_t num_bytes) override;
  void free(void* memory) noexcept override { (void)cudaFree(memory); }
  bool memory_is_host() const override { return false; }
  DType activation_dtype() const override { return DType::kBFloat16; }
  DType kv_dtype() const override { return DType::kBFloat16; }
  void upload(void* to, const void* from, size_t num_bytes) override;
  void upload_from(void* to, size_t num_bytes, const UploadSource& fill) override {
    staging_.upload_from(to, num_bytes, fill, stream_.get());
  }
  void download(void* to, const void* from, size_t num_bytes) override;
  void copy(void* to, const void* from, size_t num_bytes) override;
  void fill_hashed(const HashedTensor& tensor, uint64_t first_index, uint16_t* out,
                   size_t count) override;
  void run_repeatable(const StepKey& key, const std::function<void()>& launch) override;

  void embed(const TensorView& table, const int32_t* ids, float scale,
             const TensorView& out) override;
  void rms_norm(const TensorView& x, const TensorView& weight, float eps,
                const TensorView& out) override;
  void add_rms_norm(const TensorView& x, const TensorView& weight, float eps,
                    const TensorView& residual) override {
    add_rms_norm_then(x, weight, eps, residual, {});
  }
  void add_rms_norm_then(const TensorView& x, const TensorView& weight, float eps,
                         const TensorView& residual, std::span<const NormOutput> norms) override;
  void linear(const TensorView& x, const TensorView& weight, const TensorView& out) override;
  void attention_inputs(const AttentionShape& shape, const AttentionWeights& weights,
                        const TensorView& x, const BatchView& batch, const KvCacheView& cache,
                        const TensorView& q) override;
  void attention(const AttentionShape& shape, const TensorView& q, const BatchView& batch,
                 const KvCacheView& cache, const TensorView& out) override;
  void route(const RouterWeights& weights, const TensorView& x, float eps,
             const TensorView& topk_idx, const TensorView& topk_weights) override;
  void route_and_group(const RouterWeights& weights, const TensorView& x, float eps,
                       const TensorView& topk_idx, const TensorView& topk_weights,
                       const int32_t* slot_of, const ExpertGroups& groups) override;
  void gated_mlp(const GatedMlpWeights& weights, const TensorView& x,
                 const TensorView& out) override;
  void group_by_expert(const TensorView& topk_idx, const TensorView& topk_weights,
                       const int32_t* slot_of, const ExpertGroups& groups) override;
  void expert_ffn(const ExpertWeights& weights, const TensorView& x, const ExpertBatch& batch,
                  const TensorView& out) override;
  void tree_sum(const TensorView& in, const TreeSumBatch& batch, const TensorView& out) override;
  void merge_ffn(const FfnMergeWeights& weights, const TensorView& dense, const TensorView& experts,
                 float eps, const TensorView& residual) override;
  void sum_and_merge_ffn(const FfnMergeWeights& weights, const TensorView& dense,
                         const ExpertSums& experts, float eps, const TensorView& residual,
                         std::span<const NormOutput> norms) override;
  void logits(const TensorView& x, const TensorView& table, float cap,
              const TensorView& out) override;
  void sample(const TensorView& logits, const SamplingBatch& batch, SampledToken* sampled) override;

  void cut_patches(const ImageView* images, int num_images, int patch_size,
                   const TensorView& out) override;
  void add_patch_positions(const TensorView& table, const PatchBatch& batch,
                           const TensorView& x) override;
  void patch_attention_inputs(const PatchAttentionShape& shape, const AttentionWeights& weights,
                              const TensorView& x, const PatchBatch& batch,
                              const PatchQkv& out) override;
  void patch_attention(const PatchAttentionShape& shape, const PatchQkv& qkv,
                       const PatchBatch& batch, const TensorView& out) override;
  void pool_patches(const PatchPooling& pooling, const TensorView& x, const PatchBatch& batch,
                    const TensorView& out) override;

 private:
  // Products of one input with up to kMaxMatmulJobs weights, float32 or bf16 results.
  void multiply(MatmulArgs args);
  unsigned* tickets() { return tickets_.reserve_of<unsigned>(1); }
  // True where it has grouped the rows too.
  bool route_rows(const RouterWeights& weights, const TensorView& x, float eps,
                  const TensorView& topk_idx, const TensorView& topk_weights,
                  const GroupArgs& group);
  void down_projection(const uint16_t* inner, const TensorView& weight, const TensorView& out);
  DeviceGrids bring(const PatchBatch& batch) {
    return grids_.bring(batch, staging_, stream_.get());
  }

  const CudaOpsOptions options_;
  const DeviceLimits limits_;
  Stream main_stream_;
  ActiveStream stream_{
      main_stream_.get(),
      !options_.without_overlap && kernels_can_overlap()};  // what operations launch into
  Staging staging_;
  PinnedBuffer downloaded_{kDownloadBytes};
  std::optional<DenseMatmul> dense_;
  // Work space, grown to the largest step seen; one stream, so an operation may reuse its own.
  DeviceBuffer projected_;
  DeviceBuffer inner_;
  DeviceBuffer gates_;
  DeviceBuffer partials_;
  DeviceBuffer scores_;
  DeviceBuffer tile_counts_;
  DeviceBuffer tickets_;  // 0 between operations
  DeviceBuffer sampling_;
  DeviceBuffer sampling_work_;
  DeviceBuffer pixels_;
  PatchGrids grids_;
  SamplingBatchPacker packer_;
  StepGraphs graphs_;
};

void* CudaOps::allocate(size_t num_bytes) {
  void* memory = nullptr;
  const size_t size = std::max<size_t>(num_bytes, 1);
  BERYL_CUDA(cudaMalloc(&memory, size));
  BERYL_CUDA(cudaMemsetAsync(memory, 0, size, main_stream_.get()));
  return memory;
}

void CudaOps::upload(void* to, const void* from, size_t num_bytes) {
  if (graphs_.is_capturing_here()) throw DeviceError("CUDA: an upload within a repeatable step");
  staging_.upload(to, from, num_bytes, main_stream_.get());
}

void CudaOps::download(void* to, const void* from, size_t num_bytes) {
  if (graphs_.is_capturing_here()) throw DeviceError("CUDA: a download within a repeatable step");
  // Into pageable memory the driver copies through pinned memory of its own, and takes longer.
  const bool is_small = num_bytes <= downloaded_.num_bytes();
  if (num_bytes > 0) {
    BERYL_CUDA(cudaMemcpyAsync(is_small ? downloaded_.data() : to, from, num_bytes,
                               cudaMemcpyDeviceToHost, main_stream_.get()));
  }
  main_stream_.synchronize();
  if (num_bytes > 0 && is_small) std::memcpy(to, downloaded_.data(), num_bytes);
}

void CudaOps::copy(void* to, const void* from, size_t num_bytes) {
  if (num_bytes == 0) return;
  BERYL_CUDA(cudaMemcpyAsync(to, from, num_bytes, cudaMemcpyDeviceToDevice, stream_.get()));
}

void CudaOps::fill_hashed(const HashedTensor& tensor, uint64_t first_index, uint16_t* out,
                          size_t count) {
  BERYL_CUDA(cudaSetDevice(options_.device));  // any thread may call
  BERYL_CUDA(launch_fill_hashed(tensor, first_index, out, count, main_stream_.get()));
}

void CudaOps::run_repeatable(const StepKey& key, const std::function<void()>& launch) {
  if (options_.without_graphs) {
    launch();
    return;
  }
  const StepGraphs::WorkSpace work_space = {projected_.data(), inner_.data(),  gates_.data(),
                                            partials_.data(),  scores_.data(), tile_counts_.data()};
  graphs_.run(key, work_space, main_stream_.get(),
              [&](cudaStream_t stream) { stream_.with(stream, launch); });
}

void CudaOps::embed(const TensorView& table, const int32_t* ids, float scale,
                    const TensorView& out) {
  check_rows(out, DType::kFloat32, out.shape[0], table.shape[1]);
  BERYL_CUDA(launch_embed(table.bf16(), ids, scale, out, stream_.get()));
}

void CudaOps::rms_norm(const TensorView& x, const TensorView& weight, float eps,
                       const TensorView& out) {
  check_rows(x, DType::kFloat32, x.shape[0], x.shape[1]);
  check_rows(out, out.dtype, x.shape[0], x.shape[1]);
  check_norm_weight(weight, x.shape[1]);
  BERYL_CHECK(out.dtype != DType::kInt32 && x.shape[1] <= kMaxNormWidth);
  BERYL_CUDA(launch_rms_norm(x, weight, eps, out, stream_.get()));
}

void CudaOps::add_rms_norm_then(const TensorView& x, const TensorView& weight, float eps,
                                const TensorView& residual, std::span<const NormOutput> norms) {
  const int64_t n = x.shape[1];
  check_rows(x, DType::kFloat32, x.shape[0], n);
  check_rows(residual, DType::kFloat32, x.shape[0], n);
  check_norm_weight(weight, n);
  BERYL_CHECK(n <= kMaxNormWidth);
  const std::optional<NormsThen> then = norms_then(norms, x.shape[0], n);
  if (!then) {
    Ops::add_rms_norm_then(x, weight, eps, residual, norms);
    return;
  }
  BERYL_CUDA(launch_add_rms_norm(x, weight, eps, residual, *then, stream_.get()));
}

void CudaOps::multiply(MatmulArgs args) {
  BERYL_CHECK(args.epilogue != Epilogue::kGelu && args.num_groups == 0);
  if (args.num_rows <= max_skinny_rows(args) || !dense_) {
    BERYL_CUDA(launch_matmul(args, limits_, stream_.get()));
    return;
  }
  for (int i = 0; i < args.num_jobs; ++i) {
    const MatmulJob& job = args.jobs[i];
    dense_->run({.x = args.x,
                 .weight = job.weight,
                 .out = job.out,
                 .out_is_bf16 = args.epilogue == Epilogue::kStoreBf16,
                 .num_rows = args.num_rows,
                 .num_cols = job.num_cols,
                 .k = args.k},
                stream_.get());
    if (args.cap > 0) {
      BERYL_CUDA(launch_softcap(static_cast<float*>(job.out), int64_t{args.num_rows} * job.num_cols,
                                args.cap, stream_.get()));
    }
  }
}

void CudaOps::linear(const TensorView& x, const TensorView& weight, const TensorView& out) {
  const int64_t k = weight.shape[1];
  check_rows(x, DType::kBFloat16, x.shape[0], k);
  BERYL_CHECK(out.shape[0] == x.shape[0] && out.shape[1] == weight.shape[0]);
  MatmulArgs args;
  args.x = x.bf16();
  args.k = static_cast<int>(k);
  args.num_rows = static_cast<int>(x.shape[0]);
  args.jobs[0] = {weight.bf16(), nullptr, out.f32(), static_cast<int>(weight.shape[0])};
  multiply(args);
}

void CudaOps::attention_inputs(const AttentionShape& shape, const AttentionWeights& weights,
                               const TensorView& x, const BatchView& batch,
                               const KvCacheView& cache, const TensorView& q) {
  const int64_t rows = batch.num_rows;
  const int q_width = shape.num_heads * shape.head_dim;
  const int kv_width = shape.num_kv_heads * shape.head_dim;
  check_rows(x, DType::kBFloat16, rows, weights.q_proj.shape[1]);
  check_rows(q, DType::kBFloat16, rows, q_width);
  BERYL_CHECK(weights.q_proj.shape[0] == q_width && weights.k_proj.shape[0] == kv_width);
  BERYL_CHECK(rows == 0 || batch.row_segments != nullptr);
  if (rows == 0) return;
  const bool has_value = !shape.is_global();
  auto* projected = projected_.reserve_of<float>(rows * (q_width + kv_width * (has_value ? 2 : 1)));

  MatmulArgs args;
  args.x = x.bf16();
  args.k = static_cast<int>(weights.q_proj.shape[1]);
  args.num_rows = static_cast<int>(rows);
  args.num_jobs = has_value ? 3 : 2;
  float* const k_projected = projected + rows * q_width;
  float* const v_projected = has_value ? k_projected + rows * kv_width : nullptr;
  args.jobs[0] = {weights.q_proj.bf16(), nullptr, projected, q_width};
  args.jobs[1] = {weights.k_proj.bf16(), nullptr, k_projected, kv_width};
  if (has_value) args.jobs[2] = {weights.v_proj.bf16(), nullptr, v_projected, kv_width};
  multiply(args);

  BERYL_CUDA(launch_attention_inputs({.shape = shape,
                                      .q_norm = weights.q_norm.bf16(),
                                      .k_norm = weights.k_norm.bf16(),
                                      .q_projected = projected,
                                      .k_projected = k_projected,
                                      .v_projected = v_projected,
                                      .positions = batch.positions,
                                      .row_segments = batch.row_segments,
                                      .num_rows = static_cast<int>(rows),
                                      .cache = cache_view(shape, batch, cache),
                                      .q = q.as<uint16_t>()},
                                     stream_.get()));
}

void CudaOps::attention(const AttentionShape& shape, const TensorView& q, const BatchView& batch,
                        const KvCacheView& cache, const TensorView& out) {
  const int64_t width = int64_t{shape.num_heads} * shape.head_dim;
  check_rows(q, DType::kBFloat16, batch.num_rows, width);
  check_rows(out, DType::kBFloat16, batch.num_rows, width);
  if (batch.num_rows == 0) return;
  BERYL_CHECK(batch.row_segments != nullptr && shape.num_heads % shape.num_kv_heads == 0);
  const AttentionArgs args = {.shape = shape,
                              .cache = cache_view(shape, batch, cache),
                              .q = q.bf16(),
                              .out = out.as<uint16_t>(),
                              .positions = batch.positions,
                              .query_start_loc = batch.query_start_loc,
                              .row_segments = batch.row_segments,
                              .visible_end = batch.visible_end,
                              .num_rows = batch.num_rows,
                              .num_segments = batch.num_segments,
                              .max_segment_rows = batch.max_segment_rows,
                              .max_position = batch.max_position};
  AttentionPlan plan = plan_attention(args, limits_);
  if (options_.with_generic_attention) plan.is_generic = true;
  BERYL_CUDA(launch_attention(args, plan, partials_.reserve_of<float>(plan.partial_floats),
                              stream_.get()));
}

void CudaOps::route(const RouterWeights& weights, const TensorView& x, float eps,
                    const TensorView& topk_idx, const TensorView& topk_weights) {
  (void)route_rows(weights, x, eps, topk_idx, topk_weights, {});
}

void CudaOps::route_and_group(const RouterWeights& weights, const TensorView& x, float eps,
                              const TensorView& topk_idx, const TensorView& topk_weights,
                              const int32_t* slot_of, const ExpertGroups& groups) {
  const GroupArgs group = {.topk_idx = topk_idx.as<const int32_t>(),
                           .topk_weights = topk_weights.f32(),
                           .slot_of = slot_of,
                           .num_rows = static_cast<int>(x.shape[0]),
                           .top_k = static_cast<int>(topk_idx.shape[1]),
                           .groups = groups};
  if (route_rows(weights, x, eps, topk_idx, topk_weights, group)) return;
  group_by_expert(topk_idx, topk_weights, slot_of, groups);
}

bool CudaOps::route_rows(const RouterWeights& weights, const TensorView& x, float eps,
                         const TensorView& topk_idx, const TensorView& topk_weights,
                         const GroupArgs& group) {
  const int64_t rows = x.shape[0];
  const int64_t num_experts = weights.proj.shape[0];
  const int64_t top_k = topk_idx.shape[1];
  check_rows(x, DType::kFloat32, rows, weights.proj.shape[1]);
  BERYL_CHECK(num_experts <= kMaxRouterExperts);
  BERYL_CHECK(top_k >= 1 && top_k <= std::min<int64_t>(kMaxTopK, num_experts));
  BERYL_CHECK(topk_idx.dtype == DType::kInt32 && topk_idx.shape[0] == rows);
  BERYL_CHECK(topk_weights.shape[0] == rows && topk_weights.shape[1] == top_k);
  const int num_parts = router_parts(rows, num_experts, x.shape[1], limits_.num_sms);
  auto* memory = scores_.reserve_of<float>(num_parts * rows * (num_experts + 1));
  const RouterScores scores = {.dots = memory,
                               .squares = memory + num_parts * rows * num_experts,
                               .num_parts = num_parts,
                               .num_rows = static_cast<int>(rows),
                               .num_experts = static_cast<int>(num_experts),
                               .width = static_cast<int>(x.shape[1]),
                               .eps = eps};
  const RouterChoice choice = {
      .per_expert_scale = reinterpret_cast<const __nv_bfloat16*>(weights.per_expert_scale.bf16()),
      .top_k = static_cast<int>(top_k),
      .topk_idx = topk_idx.as<int32_t>(),
      .topk_weights = topk_weights.f32()};
  if (rows > 0 && can_have_router_tail(rows, num_experts, top_k)) {
    const RouterTail tail = {.choice = choice, .group = group, .tickets = tickets()};
    BERYL_CUDA(launch_router_scores(weights, x.f32(), scores, tail, stream_.get()));
    return group.topk_idx != nullptr;
  }
  BERYL_CUDA(launch_router_scores(weights, x.f32(), scores, {}, stream_.get()));
  BERYL_CUDA(launch_choose_experts(scores, choice, stream_.get()));
  return false;
}

// out [rows, hidden] float32 = inner [rows, width] * weight^T
void CudaOps::down_projection(const uint16_t* inner, const TensorView& weight,
                              const TensorView& out) {
  MatmulArgs args;
  args.x = inner;
  args.k = static_cast<int>(weight.shape[1]);
  args.num_rows = static_cast<int>(out.shape[0]);
  args.jobs[0] = {weight.bf16(), nullptr, out.f32(), static_cast<int>(weight.shape[0])};
  multiply(args);
}

void CudaOps::gated_mlp(const GatedMlpWeights& weights, const TensorView& x,
                        const TensorView& out) {
  const int64_t rows = x.shape[0];
  const int64_t hidden = weights.gate_proj.shape[1];
  const int64_t width = weights.gate_proj.shape[0];
  check_rows(x, DType::kBFloat16, rows, hidden);
  check_rows(out, DType::kFloat32, rows, hidden);
  BERYL_CHECK(weights.up_proj.shape[0] == width && weights.down_proj.shape[0] == hidden);
  BERYL_CHECK(weights.down_proj.shape[1] == width && width % kRowUnit == 0);
  if (rows == 0) return;
  auto* inner = inner_.reserve_of<uint16_t>(rows * width);
  MatmulArgs args;
  args.x = x.bf16();
  args.k = static_cast<int>(hidden);
  args.num_rows = static_cast<int>(rows);
  args.epilogue = Epilogue::kGelu;
  if (rows <= max_skinny_rows(args) || !dense_) {
    args.jobs[0] = {weights.gate_proj.bf16(), weights.up_proj.bf16(), inner,
                    static_cast<int>(width)};
    BERYL_CUDA(launch_matmul(args, limits_, stream_.get()));
  } else {
    auto* gate = gates_.reserve_of<uint16_t>(2 * rows * width);
    auto* up = gate + rows * width;
    args.epilogue = Epilogue::kStoreBf16;
    args.num_jobs = 2;
    args.jobs[0] = {weights.gate_proj.bf16(), nullptr, gate, static_cast<int>(width)};
    args.jobs[1] = {weights.up_proj.bf16(), nullptr, up, static_cast<int>(width)};
    multiply(args);
    BERYL_CUDA(launch_gelu_mul(gate, up, rows * width, inner, stream_.get()));
  }
  down_projection(inner, weights.down_proj, out);
}

void CudaOps::group_by_expert(const TensorView& topk_idx, const TensorView& topk_weights,
                              const int32_t* slot_of, const ExpertGroups& groups) {
  const int64_t rows = topk_idx.shape[0];
  const int64_t top_k = topk_idx.shape[1];
  BERYL_CHECK(topk_idx.dtype == DType::kInt32 && topk_weights.num_elements() == rows * top_k);
  BERYL_CHECK(top_k <= kMaxTopK && rows * top_k <= int64_t{1} << 30);
  const int64_t work_ints =
      group_work_ints(static_cast<int>(rows), static_cast<int>(top_k), groups.num_local_experts);
  BERYL_CUDA(launch_group_by_expert({.topk_idx = topk_idx.as<const int32_t>(),
                                     .topk_weights = topk_weights.f32(),
                                     .slot_of = slot_of,
                                     .tile_counts = tile_counts_.reserve_of<int32_t>(work_ints),
                                     .num_rows = static_cast<int>(rows),
                                     .top_k = static_cast<int>(top_k),
                                     .groups = groups},
                                    stream_.get()));
}

void CudaOps::expert_ffn(const ExpertWeights& weights, const TensorView& x,
                         const ExpertBatch& batch, const TensorView& out) {
  const int64_t num_experts = weights.down_proj.shape[0];
  const int64_t hidden = weights.down_proj.shape[1];
  const int64_t width = weights.down_proj.shape[2];
  if (batch.num_assignments == 0) return;
  check_rows(x, DType::kBFloat16, x.shape[0], hidden);
  BERYL_CHECK(out.dtype == DType::kFloat32 && out.shape[1] == hidden && width % kRowUnit == 0);
  BERYL_CHECK(out.shape[0] >= batch.num_assignments);
  auto* inner = inner_.reserve_of<uint16_t>(int64_t{batch.num_assignments} * width);
  const uint16_t* gate = weights.gate_up_proj.bf16();

  MatmulArgs args;
  args.x = x.bf16();
  args.k = static_cast<int>(hidden);
  args.num_rows = batch.num_assignments;
  args.num_groups = static_cast<int>(num_experts);
  args.offsets = batch.expert_offsets;
  args.epilogue = Epilogue::kGelu;
  args.weight_stride = 2 * width * hidden;
  args.row_idx = batch.row_idx;
  args.jobs[0] = {gate, gate + width * hidden, inner, static_cast<int>(width)};
  BERYL_CUDA(launch_matmul(args, limits_, stream_.get()));
  const MatmulPlan plan = plan_matmul(args, limits_);
  args.offsets_are_settled = plan.kernel == MatmulPlan::Kernel::kSkinny;

  args.x = inner;
  args.k = static_cast<int>(width);
  args.epilogue = Epilogue::kStore;
  args.weight_stride = hidden * width;
  args.row_idx = nullptr;
  args.row_scale = batch.weight;
  args.jobs[0] = {weights.down_proj.bf16(), nullptr, out.f32(), static_cast<int>(hidden)};
  BERYL_CUDA(launch_matmul(args, limits_, stream_.get()));
}

void CudaOps::tree_sum(const TensorView& in, const TreeSumBatch& batch, const TensorView& out) {
  BERYL_CHECK(in.shape[1] == out.shape[1] && out.shape[0] >= batch.num_rows);
  BERYL_CHECK(out.shape[1] % kRowUnit == 0);
  BERYL_CUDA(launch_tree_sum(in, batch, out, stream_.get()));
}

void CudaOps::merge_ffn(const FfnMergeWeights& weights, const TensorView& dense,
                        const TensorView& experts, float eps, const TensorView& residual) {
  check_merge(weights, dense, residual);
  check_rows(experts, DType::kFloat32, dense.shape[0], dense.shape[1]);
  BERYL_CUDA(launch_merge_ffn(
      {.weights = weights, .dense = dense, .experts = experts, .residual = residual, .eps = eps},
      stream_.get()));
}

void CudaOps::sum_and_merge_ffn(const FfnMergeWeights& weights, const TensorView& dense,
                                const ExpertSums& experts, float eps, const TensorView& residual,
                                std::span<const NormOutput> norms) {
  check_merge(weights, dense, residual);
  const std::optional<NormsThen> then = norms_then(norms, dense.shape[0], dense.shape[1]);
  const int leaves = experts.batch.leaves_per_row;
  if (!then || leaves < 1 || leaves > kMaxMergedLeaves) {
    Ops::sum_and_merge_ffn(weights, dense, experts, eps, residual, norms);
    return;
  }
  BERYL_CHECK(experts.results.dtype == DType::kFloat32);
  BERYL_CHECK(experts.results.shape[1] == dense.shape[1]);
  BERYL_CHECK(experts.batch.num_rows == dense.shape[0]);
  BERYL_CUDA(launch_merge_ffn({.weights = weights,
                               .dense = dense,
                               .experts = experts.results,
                               .leaves = &experts.batch,
                               .residual = residual,
                               .eps = eps,
                               .then = *then},
                              stream_.get()));
}

void CudaOps::logits(const TensorView& x, const TensorView& table, float cap,
                     const TensorView& out) {
  const int64_t k = table.shape[1];
  check_rows(x, DType::kBFloat16, x.shape[0], k);
  BERYL_CHECK(out.shape[0] == x.shape[0] && out.shape[1] == table.shape[0] && cap > 0);
  MatmulArgs args;
  args.x = x.bf16();
  args.k = static_cast<int>(k);
  args.num_rows = static_cast<int>(x.shape[0]);
  args.cap = cap;
  args.jobs[0] = {table.bf16(), nullptr, out.f32(), static_cast<int>(table.shape[0])};
  multiply(args);
}

void CudaOps::sample(const TensorView& logits, const SamplingBatch& batch, SampledToken* sampled) {
  BERYL_CHECK(logits.shape[0] >= batch.num_rows && logits.shape[1] <= kMaxSampledVocab);
  if (batch.num_rows == 0) return;
  const auto vocab_size = static_cast<int32_t>(logits.shape[1]);
  auto* memory = static_cast<std::byte*>(sampling_.reserve(packer_.num_bytes(batch)));
  const std::vector<std::byte>& packed = packer_.pack(batch, vocab_size, memory);
  upload(memory, packed.data(), packed.size());
  auto* work = sampling_work_.reserve(sampling_work_bytes(batch.num_rows));
  BERYL_CUDA(launch_sample({.logits = logits.f32(),
                            .vocab_size = vocab_size,
                            .num_rows = batch.num_rows,
                            .rows = reinterpret_cast<const SamplingRow*>(memory),
                            .sampled = sampled,
                            .work = static_cast<SamplingWork*>(work)},
                           sampling_needs(batch, vocab_size), stream_.get()));
}

void CudaOps::cut_patches(const ImageView* images, int num_images, int patch_size,
                          const TensorView& out) {
  const int64_t patch_dim = int64_t{3} * patch_size * patch_size;
  std::vector<PatchGrid> grids;
  for (int i = 0; i < num_images; ++i) {
    grids.push_back(
        {.height = images[i].height / patch_size, .width = images[i].width / patch_size});
  }
  const PatchBatch batch = {.num_images = num_images, .grids = grids.data()};
  check_rows(out, out.dtype, batch.num_patches(), patch_dim);
  BERYL_CHECK(out.dtype != DType::kInt32);
  auto* pixels = pixels_.reserve_of<uint8_t>(batch.num_patches() * patch_dim);
  uint8_t* to = pixels;
  for (int i = 0; i < num_images; ++i) {
    const auto num_bytes =
        static_cast<size_t>(grids[static_cast<size_t>(i)].num_patches() * patch_dim);
    upload(to, images[i].pixels, num_bytes);
    to += num_bytes;
  }
  BERYL_CUDA(launch_cut_patches(pixels, bring(batch), patch_size, out, stream_.get()));
}

void CudaOps::add_patch_positions(const TensorView& table, const PatchBatch& batch,
                                  const TensorView& x) {
  check_rows(x, DType::kFloat32, batch.num_patches(), table.shape[2]);
  BERYL_CHECK(table.dtype == DType::kBFloat16 && table.shape[0] == 2);
  for (int i = 0; i < batch.num_images; ++i) {
    const PatchGrid& grid = batch.grids[i];
    BERYL_CHECK(grid.width <= table.shape[1] && grid.height <= table.shape[1]);
  }
  BERYL_CUDA(launch_add_patch_positions(table, bring(batch), x, stream_.get()));
}

void CudaOps::patch_attention_inputs(const PatchAttentionShape& shape,
                                     const AttentionWeights& weights, const TensorView& x,
                                     const PatchBatch& batch, const PatchQkv& out) {
  const int64_t rows = batch.num_patches();
  const int width = shape.num_heads * shape.head_dim;
  check_rows(x, DType::kBFloat16, rows, weights.q_proj.shape[1]);
  const TensorView* projections[] = {&weights.q_proj, &weights.k_proj, &weights.v_proj};
  const TensorView* results[] = {&out.q, &out.k, &out.v};
  auto* projected = projected_.reserve_of<float>(3 * rows * width);
  MatmulArgs args;
  args.x = x.bf16();
  args.k = static_cast<int>(weights.q_proj.shape[1]);
  args.num_rows = static_cast<int>(rows);
  args.num_jobs = 3;
  PatchInputsArgs inputs = {.grids = bring(batch),
                            .num_heads = shape.num_heads,
                            .head_dim = shape.head_dim,
                            .rms_norm_eps = shape.rms_norm_eps,
                            .inv_freq = shape.inv_freq,
                            .q_norm = weights.q_norm.bf16(),
                            .k_norm = weights.k_norm.bf16(),
                            .projected = projected};
  for (int i = 0; i < 3; ++i) {
    check_rows(*results[i], DType::kBFloat16, rows, width);
    BERYL_CHECK(projections[i]->shape[0] == width && projections[i]->shape[1] == args.k);
    args.jobs[i] = {projections[i]->bf16(), nullptr, projected + i * rows * width, width};
    inputs.results[i] = results[i]->as<uint16_t>();
  }
  if (rows == 0) return;
  multiply(args);
  BERYL_CUDA(launch_patch_inputs(inputs, stream_.get()));
}

void CudaOps::patch_attention(const PatchAttentionShape& shape, const PatchQkv& qkv,
                              const PatchBatch& batch, const TensorView& out) {
  for (const TensorView* tensor : {&qkv.q, &qkv.k, &qkv.v, &out}) {
    check_rows(*tensor, DType::kBFloat16, batch.num_patches(),
               int64_t{shape.num_heads} * shape.head_dim);
  }
  const PatchAttentionArgs args = {.grids = bring(batch),
                                   .num_heads = shape.num_heads,
                                   .head_dim = shape.head_dim,
                                   .q = qkv.q.bf16(),
                                   .k = qkv.k.bf16(),
                                   .v = qkv.v.bf16(),
                                   .out = out.as<uint16_t>()};
  const bool is_generic = options_.with_generic_attention || shape.head_dim != kPatchTileHeadDim;
  BERYL_CUDA(is_generic ? launch_generic_patch_attention(args, stream_.get())
                        : launch_tile_patch_attention(args, stream_.get()));
}

void CudaOps::pool_patches(const PatchPooling& pooling, const TensorView& x,
                           const PatchBatch& batch, const TensorView& out) {
  const int side = pooling.kernel_size;
  const int64_t hidden = x.shape[1];
  check_rows(x, DType::kFloat32, batch.num_patches(), hidden);
  check_rows(out, DType::kFloat32, batch.num_patches() / (int64_t{side} * side), hidden);
  check_norm_weight(pooling.std_bias, hidden);
  check_norm_weight(pooling.std_scale, hidden);
  BERYL_CHECK(pooling.std_bias.empty() == pooling.std_scale.empty());
  for (int i = 0; i < batch.num_images; ++i) {
    BERYL_CHECK(batch.grids[i].width % side == 0 && batch.grids[i].height % side == 0);
  }
  BERYL_CUDA(launch_pool_patches(pooling, bring(batch), x, out, stream_.get()));
}

}  // namespace

bool is_built_with_cuda() {
  return true;
}

namespace {

// A build holds code for some architectures; what it lacks would show at the first launch only.
void check_code(const DeviceInfo& info) {
  (void)cudaGetLastError();
  (void)kernels_can_overlap();  // asks for a kernel's attributes
  const cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) return;
  const std::string arch = std::to_string(info.compute_major) + std::to_string(info.compute_minor);
  throw DeviceError("CUDA: this build has no code for " + info.name + ": configure it with " +
                    "-DCMAKE_CUDA_ARCHITECTURES=" + arch + " (" + cudaGetErrorName(error) + ")");
}

}  // namespace

std::unique_ptr<Ops> make_cuda_ops(const CudaOpsOptions& options) {
  const DeviceInfo info = query_device(options.device);
  if (!info.is_usable) throw DeviceError("CUDA: " + info.problem);
  BERYL_CUDA(cudaSetDevice(options.device));
  check_code(info);
  if (options.kernel_arch == KernelArch::kBest) return std::make_unique<CudaOps>(options, info);
  CudaOpsOptions generic = options;
  generic.without_overlap = true;
  return std::make_unique<CudaOps>(generic, as_sm_80(info));
}

}  // namespace beryl::kernels::cuda
