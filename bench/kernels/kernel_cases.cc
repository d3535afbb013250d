#include <fmt/format.h>

#include <algorithm>
#include <random>
#include <utility>

#include "bench/kernels/device_tensors.h"
#include "bench/kernels/kernel_case.h"

namespace beryl::bench {
namespace {

using kernels::DType;
using kernels::TensorView;

// The published model.
constexpr int64_t kHidden = 2816;
constexpr int64_t kDenseWidth = 2112;
constexpr int64_t kExpertWidth = 704;
constexpr int64_t kNumExperts = 128;
constexpr int64_t kTopK = 8;
constexpr int64_t kVocab = 262144;
constexpr float kEps = 1e-6f;

constexpr double kCacheBytes = 120e6;  // more than the second-level cache of any of these GPUs

// Weights are read from memory, not from a cache: so many copies take turns.
int copies_of(double num_bytes) {
  return std::clamp(static_cast<int>(kCacheBytes / num_bytes) + 1, 1, 32);
}

std::vector<float> first_rows(const DeviceTensors& tensors, TensorView tensor, int64_t rows) {
  tensor.shape[0] = rows;
  return tensors.floats(tensor);
}

void visit_linear(const KernelOps& device, int64_t cols, int64_t k, int64_t rows,
                  const CaseVisitor& visit) {
  DeviceTensors tensors(device.ops);
  const double weight_bytes = 2.0 * static_cast<double>(cols * k);
  std::vector<TensorView> weights;
  for (int i = 0; i < copies_of(weight_bytes); ++i) {
    weights.push_back(tensors.random({cols, k}, 0.02f));
  }
  // More rows than asked for: the comparison goes another way (tiles instead of streaming).
  const int64_t all_rows = std::max<int64_t>(rows, 64);
  const TensorView all_x = tensors.random({all_rows, k}, 1);
  TensorView x = all_x;
  x.shape[0] = rows;
  const TensorView out = tensors.zeros(DType::kFloat32, {rows, cols});
  KernelCase one;
  one.name = fmt::format("linear/cols:{}/k:{}/rows:{}", cols, k, rows);
  one.bytes =
      weight_bytes + 2.0 * static_cast<double>(rows * k) + 4.0 * static_cast<double>(rows * cols);
  one.flops = 2.0 * static_cast<double>(rows * cols * k);
  one.run = [&](int i) {
    device.ops.linear(x, weights[static_cast<size_t>(i) % weights.size()], out);
  };
  one.error = [&] {
    const TensorView other = tensors.zeros(DType::kFloat32, {all_rows, cols});
    device.ops.download(nullptr, nullptr, 0);
    device.plain.linear(all_x, weights[0], other);
    device.plain.download(nullptr, nullptr, 0);
    return relative_difference(tensors.floats(out), first_rows(tensors, other, rows));
  };
  visit(one);
}

void visit_mlp(const KernelOps& device, int64_t rows, const CaseVisitor& visit) {
  DeviceTensors tensors(device.ops);
  std::vector<kernels::GatedMlpWeights> weights;
  const double weight_bytes = 6.0 * static_cast<double>(kHidden * kDenseWidth);
  for (int i = 0; i < copies_of(weight_bytes); ++i) {
    weights.push_back({tensors.random({kDenseWidth, kHidden}, 0.03f),
                       tensors.random({kDenseWidth, kHidden}, 0.03f),
                       tensors.random({kHidden, kDenseWidth}, 0.03f)});
  }
  const TensorView x = tensors.random({rows, kHidden}, 1);
  const TensorView out = tensors.zeros(DType::kFloat32, {rows, kHidden});
  KernelCase one;
  one.name = fmt::format("gated_mlp/rows:{}", rows);
  one.bytes = weight_bytes + 6.0 * static_cast<double>(rows * kHidden);
  one.flops = 6.0 * static_cast<double>(rows * kHidden * kDenseWidth);
  one.run = [&](int i) {
    device.ops.gated_mlp(weights[static_cast<size_t>(i) % weights.size()], x, out);
  };
  one.error = [&] {
    const TensorView other = tensors.zeros(DType::kFloat32, {rows, kHidden});
    device.ops.download(nullptr, nullptr, 0);
    device.plain.gated_mlp(weights[0], x, other);
    device.plain.download(nullptr, nullptr, 0);
    return relative_difference(tensors.floats(out), tensors.floats(other));
  };
  visit(one);
}

struct Groups {
  kernels::ExpertGroups groups;
  TensorView topk_idx, topk_weights;
  const int32_t* slot_of;
  int64_t num_used = 0;  // experts with rows
};

Groups make_groups(DeviceTensors& tensors, int64_t rows) {
  std::mt19937 engine(7);
  std::vector<int32_t> order(kNumExperts);
  for (size_t e = 0; e < order.size(); ++e) order[e] = static_cast<int32_t>(e);
  const std::vector<int32_t> identity = order;
  std::vector<int32_t> idx;
  std::vector<bool> used(kNumExperts);
  for (int64_t row = 0; row < rows; ++row) {
    std::shuffle(order.begin(), order.end(), engine);
    idx.insert(idx.end(), order.begin(), order.begin() + kTopK);
    for (int64_t k = 0; k < kTopK; ++k)
      used[static_cast<size_t>(order[static_cast<size_t>(k)])] = true;
  }
  Groups made;
  made.num_used = std::count(used.begin(), used.end(), true);
  const auto ints = [&](int64_t n) { return tensors.zeros(DType::kInt32, {n}).as<int32_t>(); };
  const int64_t entries = rows * kTopK;
  made.groups = {.num_local_experts = kNumExperts,
                 .expert_offsets = ints(kNumExperts + 1),
                 .row_idx = ints(entries),
                 .weight = tensors.zeros(DType::kFloat32, {entries}).f32(),
                 .leaf_offsets = ints(rows + 1),
                 .leaf_rows = ints(entries),
                 .leaf_keys = ints(entries),
                 .load = tensors.zeros(DType::kInt32, {2 * kNumExperts}).as<int64_t>()};
  made.topk_idx = tensors.zeros(DType::kInt32, {rows, kTopK});
  tensors.ops().upload(made.topk_idx.data, idx.data(), made.topk_idx.num_bytes());
  made.topk_weights = tensors.random_rows(rows, kTopK);
  made.slot_of = tensors.ints(identity);
  return made;
}

// Some rows of `out` computed another way: each expert as a dense MLP.
double expert_error(DeviceTensors& tensors, const kernels::ExpertWeights& weights,
                    const Groups& made, const TensorView& x, const TensorView& out) {
  kernels::Ops& ops = tensors.ops();

  std::vector<int32_t> offsets(kNumExperts + 1);
  ops.download(offsets.data(), made.groups.expert_offsets, offsets.size() * 4);
  double worst = 0;
  for (int64_t e : {int64_t{0}, kNumExperts / 2, kNumExperts - 1}) {
    const int64_t begin = offsets[static_cast<size_t>(e)];
    const int64_t count = std::min<int64_t>(offsets[static_cast<size_t>(e) + 1] - begin, 3);
    for (int64_t a = begin; a < begin + count; ++a) {
      int32_t row = 0;
      float weight = 0;
      ops.download(&row, made.groups.row_idx + a, sizeof(row));
      ops.download(&weight, made.groups.weight + a, sizeof(weight));
      const auto part = [](const TensorView& t, int64_t first,
                           std::initializer_list<int64_t> dims) {
        TensorView view(nullptr, t.dtype, dims);
        view.data = t.as<std::byte>() + static_cast<size_t>(first) * kernels::dtype_bytes(t.dtype);
        return view;
      };
      const int64_t matrix = kExpertWidth * kHidden;
      const TensorView single = tensors.zeros(DType::kFloat32, {1, kHidden});
      ops.gated_mlp({part(weights.gate_up_proj, e * 2 * matrix, {kExpertWidth, kHidden}),
                     part(weights.gate_up_proj, e * 2 * matrix + matrix, {kExpertWidth, kHidden}),
                     part(weights.down_proj, e * matrix, {kHidden, kExpertWidth})},
                    part(x, int64_t{row} * kHidden, {1, kHidden}), single);
      std::vector<float> expected = tensors.floats(single);
      for (float& value : expected) value *= weight;
      worst = std::max(worst, relative_difference(
                                  tensors.floats(part(out, a * kHidden, {1, kHidden})), expected));
    }
  }
  return worst;
}

void visit_experts(const KernelOps& device, int64_t rows, const CaseVisitor& visit) {
  DeviceTensors tensors(device.ops);
  const kernels::ExpertWeights weights = {
      tensors.random({kNumExperts, 2 * kExpertWidth, kHidden}, 0.03f),
      tensors.random({kNumExperts, kHidden, kExpertWidth}, 0.03f)};
  const Groups made = make_groups(tensors, rows);
  const int64_t entries = rows * kTopK;
  const TensorView x = tensors.random({rows, kHidden}, 1);
  const TensorView out = tensors.zeros(DType::kFloat32, {entries, kHidden});
  const TensorView summed = tensors.zeros(DType::kFloat32, {rows, kHidden});
  const kernels::ExpertBatch batch = {static_cast<int>(entries), made.groups.expert_offsets,
                                      made.groups.row_idx, made.groups.weight};
  device.ops.group_by_expert(made.topk_idx, made.topk_weights, made.slot_of, made.groups);

  KernelCase ffn;
  ffn.name = fmt::format("expert_ffn/tokens:{}/num_experts:128/top_k:8", rows);
  ffn.bytes = 6.0 * static_cast<double>(made.num_used * kHidden * kExpertWidth) +
              static_cast<double>(2 * rows * kHidden + 4 * entries * kHidden);
  ffn.flops = 6.0 * static_cast<double>(entries * kHidden * kExpertWidth);
  ffn.run = [&](int) { device.ops.expert_ffn(weights, x, batch, out); };
  ffn.error = [&] { return expert_error(tensors, weights, made, x, out); };
  visit(ffn);

  KernelCase group;
  group.name = fmt::format("group_by_expert/tokens:{}", rows);
  group.bytes = static_cast<double>(entries) * 28;
  group.run = [&](int) {
    device.ops.group_by_expert(made.topk_idx, made.topk_weights, made.slot_of, made.groups);
  };
  visit(group);

  KernelCase sum;
  sum.name = fmt::format("tree_sum/rows:{}/leaves:8", rows);
  sum.bytes = 4.0 * static_cast<double>((entries + rows) * kHidden);
  sum.run = [&](int) {
    device.ops.tree_sum(out,
                        {static_cast<int>(rows), made.groups.leaf_offsets, made.groups.leaf_rows,
                         made.groups.leaf_keys, static_cast<int>(kTopK)},
                        summed);
  };
  visit(sum);

  const TensorView gains[4] = {
      tensors.random({kHidden}, 0.3f, 1), tensors.random({kHidden}, 0.3f, 1),
      tensors.random({kHidden}, 0.3f, 1), tensors.random({kHidden}, 0.3f, 1)};
  const TensorView dense = tensors.random_rows(rows, kHidden);
  const TensorView residual = tensors.random_rows(rows, kHidden);
  const kernels::NormOutput norm = {gains[3], tensors.zeros(DType::kBFloat16, {rows, kHidden})};
  KernelCase merge;
  merge.name = fmt::format("sum_and_merge_ffn/rows:{}/leaves:8/norms:1", rows);
  merge.bytes = static_cast<double>(kHidden * (4 * entries + 14 * rows));
  merge.run = [&](int) {
    device.ops.sum_and_merge_ffn(
        {gains[0], gains[1], gains[2], 0.5f}, dense,
        {out,
         {static_cast<int>(rows), made.groups.leaf_offsets, made.groups.leaf_rows,
          made.groups.leaf_keys, static_cast<int>(kTopK)},
         summed},
        kEps, residual, {&norm, 1});
  };
  visit(merge);
}

void visit_rows(const KernelOps& device, int64_t rows, const CaseVisitor& visit) {
  DeviceTensors tensors(device.ops);
  const TensorView x = tensors.random_rows(rows, kHidden);
  const TensorView residual = tensors.random_rows(rows, kHidden);
  const TensorView gains[3] = {tensors.random({kHidden}, 0.3f, 1),
                               tensors.random({kHidden}, 0.3f, 1),
                               tensors.random({kHidden}, 0.3f, 1)};
  const TensorView normed = tensors.zeros(DType::kBFloat16, {rows, kHidden});
  const kernels::RouterWeights router = {tensors.random({kNumExperts, kHidden}, 2),
                                         tensors.random({kHidden}, 0.3f, 1),
                                         tensors.random({kNumExperts}, 0.3f, 1)};
  const TensorView topk_idx = tensors.zeros(DType::kInt32, {rows, kTopK});
  const TensorView topk_weights = tensors.zeros(DType::kFloat32, {rows, kTopK});
  const auto numbers = static_cast<double>(rows * kHidden);
  const auto add = [&](const char* name, double bytes, const std::function<void(int)>& run) {
    KernelCase one;
    one.name = fmt::format("{}/rows:{}", name, rows);
    one.bytes = bytes;
    one.run = run;
    visit(one);
  };
  add("rms_norm", 6 * numbers, [&](int) { device.ops.rms_norm(x, gains[0], kEps, normed); });
  add("add_rms_norm", 12 * numbers,
      [&](int) { device.ops.add_rms_norm(x, gains[0], kEps, residual); });
  const kernels::NormOutput norms[] = {
      {gains[1], normed}, {gains[2], tensors.zeros(DType::kBFloat16, {rows, kHidden})}};
  add("add_rms_norm_then/norms:2", 16 * numbers,
      [&](int) { device.ops.add_rms_norm_then(x, gains[0], kEps, residual, norms); });
  add("merge_ffn", 16 * numbers, [&](int) {
    device.ops.merge_ffn({gains[0], gains[1], gains[2], 0.5f}, x, x, kEps, residual);
  });
  add("route", 4 * numbers + 2.0 * kNumExperts * kHidden,
      [&](int) { device.ops.route(router, x, kEps, topk_idx, topk_weights); });
}

void visit_head(const KernelOps& device, int64_t rows, const CaseVisitor& visit) {
  DeviceTensors tensors(device.ops);
  const TensorView table = tensors.random({kVocab, kHidden}, 0.05f);
  const TensorView x = tensors.random({rows, kHidden}, 1);
  const TensorView out = tensors.zeros(DType::kFloat32, {rows, kVocab});
  KernelCase head;
  head.name = fmt::format("logits/rows:{}", rows);
  head.bytes = 2.0 * kVocab * kHidden + 4.0 * static_cast<double>(rows) * kVocab;
  head.flops = 2.0 * static_cast<double>(rows) * kVocab * kHidden;
  head.run = [&](int) { device.ops.logits(x, table, 30, out); };
  visit(head);

  device.ops.logits(x, table, 30, out);  // also where that case is left out
  const int64_t token_bytes = sizeof(kernels::SampledToken);
  const TensorView sampled = tensors.zeros(DType::kInt32, {rows * token_bytes / 4 + 1});
  const std::pair<const char*, kernels::SamplingRow> kinds[] = {
      {"greedy", {.temperature = 0}},
      {"temperature:1", {}},
      {"top_k:64/top_p:0.95", {.top_k = 64, .top_p = 0.95f}},
      {"top_p:0.95", {.top_p = 0.95f}},
      {"top_k:64/top_p:0.95/logprobs:5", {.top_k = 64, .top_p = 0.95f, .num_top_logprobs = 5}},
  };
  for (const auto& [name, row] : kinds) {
    const std::vector<kernels::SamplingRow> params(static_cast<size_t>(rows), row);
    KernelCase sample;
    sample.name = fmt::format("sample/{}/rows:{}", name, rows);
    sample.bytes = 4.0 * static_cast<double>(rows) * kVocab;
    sample.run = [&](int) {
      device.ops.sample(out, {params.data(), static_cast<int>(rows)},
                        sampled.as<kernels::SampledToken>());
    };
    visit(sample);
  }
}

}  // namespace

void visit_kernel_cases(const KernelOps& device, const CaseVisitor& visit) {
  for (const int64_t rows : {1, 8, 16, 32, 64, 512, 4096}) {
    visit_linear(device, 4096, kHidden, rows, visit);
    visit_linear(device, 2048, kHidden, rows, visit);
    visit_linear(device, kHidden, 4096, rows, visit);
    visit_linear(device, kHidden, 8192, rows, visit);
    visit_mlp(device, rows, visit);
    visit_rows(device, rows, visit);
  }
  for (const int64_t rows : {1, 2, 4, 8, 16, 64, 256, 1024, 4096})
    visit_experts(device, rows, visit);
  for (const int64_t rows : {1, 8, 64, 100}) visit_head(device, rows, visit);
}

}  // namespace beryl::bench
