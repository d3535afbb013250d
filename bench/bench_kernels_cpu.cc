// Speed of the CPU operations at the published shapes. Weights are walked through a pool larger
// than the caches, as decoding does. First the ceiling is measured (BM_Read); each line then gives
// its bytes/s of weights or KV and its FLOP/s. Option --threads=N before Google Benchmark's own.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/thread_pool.h"

namespace beryl::kernels {
namespace {

constexpr int64_t kPoolBytes = int64_t{600} << 20;  // many times the last-level cache
constexpr int64_t kHidden = 2816;

// What all benchmarks share; built once in main.
struct Lab {
  explicit Lab(int num_threads)
      : pool(num_threads),
        ops(cpu::make_cpu_ops({num_threads, cpu::Isa::kBest})),
        weights(static_cast<size_t>(kPoolBytes / 2)) {
    uint32_t state = 1;
    for (uint16_t& w : weights) {
      state = state * 1664525u + 1013904223u;
      w = static_cast<uint16_t>(0x3C00u | (state >> 31 << 15) | (state >> 20 & 0xFF));
    }
  }

  // A weight matrix that was not used for a while.
  TensorView next(int64_t rows, int64_t cols) {
    const auto size = static_cast<size_t>(rows * cols);
    if (offset + size > weights.size()) offset = 0;
    TensorView view{weights.data() + offset, DType::kBFloat16, {rows, cols}};
    offset += size;
    return view;
  }

  cpu::ThreadPool pool;
  std::unique_ptr<Ops> ops;
  std::vector<uint16_t> weights;
  size_t offset = 0;
};

struct Floats {
  explicit Floats(int64_t size) : data(static_cast<size_t>(size)) {
    std::mt19937 engine(1);
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < data.size(); ++i) {
      data[i] = i < 4096 ? normal(engine) : data[i % 4096];
    }
  }
  TensorView view(int64_t rows, int64_t cols) {
    return {data.data(), DType::kFloat32, {rows, cols}};
  }
  std::vector<float> data;
};

void report(benchmark::State& state, double bytes, double flops) {
  const auto iterations = static_cast<double>(state.iterations());
  const auto rate = benchmark::Counter::kIsRate;
  state.counters["B/s"] = benchmark::Counter(bytes * iterations, rate);
  if (flops > 0) state.counters["FLOP/s"] = benchmark::Counter(flops * iterations, rate);
}

// The ceiling: each thread reads its part of the pool, adding up 16-byte words.
void read_pool(benchmark::State& state, Lab& lab) {
  typedef uint64_t Word __attribute__((vector_size(16)));
  constexpr size_t kWords = 16;  // four cache lines
  std::vector<uint64_t> sums(static_cast<size_t>(lab.pool.num_threads()) * 8);
  for (auto _ : state) {
    lab.pool.run([&](int thread_idx) {
      const size_t count = lab.weights.size() * 2 / static_cast<size_t>(lab.pool.num_threads());
      const char* begin = reinterpret_cast<const char*>(lab.weights.data()) +
                          count * static_cast<size_t>(thread_idx);
      Word sum[kWords] = {};
      for (size_t i = 0; i + sizeof(sum) <= count; i += sizeof(sum)) {
        for (size_t line = 0; line < sizeof(sum); line += 64) {
          __builtin_prefetch(begin + i + 4096 + line);
        }
        for (size_t j = 0; j < kWords; ++j) {
          Word word;
          std::memcpy(&word, begin + i + j * sizeof(word), sizeof(word));
          sum[j] += word;
        }
      }
      for (const Word& word : sum) sums[static_cast<size_t>(thread_idx) * 8] += word[0] + word[1];
    });
  }
  benchmark::DoNotOptimize(sums.data());
  report(state, static_cast<double>(kPoolBytes), 0);
}

void linear(benchmark::State& state, Lab& lab, int64_t rows, int64_t k, int64_t n) {
  Floats x(rows * k);
  Floats out(rows * n);
  for (auto _ : state) lab.ops->linear(x.view(rows, k), lab.next(n, k), out.view(rows, n));
  report(state, static_cast<double>(2 * n * k), static_cast<double>(2 * rows * n * k));
}

void gated_mlp(benchmark::State& state, Lab& lab, int64_t rows) {
  constexpr int64_t kWidth = 2112;
  Floats x(rows * kHidden);
  Floats out(rows * kHidden);
  for (auto _ : state) {
    const GatedMlpWeights weights = {lab.next(kWidth, kHidden), lab.next(kWidth, kHidden),
                                     lab.next(kHidden, kWidth)};
    lab.ops->gated_mlp(weights, x.view(rows, kHidden), out.view(rows, kHidden));
  }
  constexpr double kSize = 3.0 * kWidth * kHidden;
  report(state, 2 * kSize, 2 * kSize * static_cast<double>(rows));
}

// Each row goes to 8 of 32 local experts, as far apart as possible.
void expert_ffn(benchmark::State& state, Lab& lab, int64_t rows) {
  constexpr int64_t kExperts = 32;
  constexpr int64_t kWidth = 704;
  std::vector<std::vector<int32_t>> rows_of(kExperts);
  for (int64_t i = 0; i < rows * 8; ++i) {
    rows_of[static_cast<size_t>(i * 11 % kExperts)].push_back(static_cast<int32_t>(i / 8));
  }
  std::vector<int32_t> offsets = {0};
  std::vector<int32_t> row_idx;
  int64_t used = 0;
  for (const auto& list : rows_of) {
    used += list.empty() ? 0 : 1;
    row_idx.insert(row_idx.end(), list.begin(), list.end());
    offsets.push_back(static_cast<int32_t>(row_idx.size()));
  }
  const std::vector<float> weight(row_idx.size(), 0.125f);
  const auto num_assignments = static_cast<int64_t>(row_idx.size());
  Floats x(rows * kHidden);
  Floats out(num_assignments * kHidden);
  for (auto _ : state) {
    ExpertWeights weights;
    weights.gate_up_proj = lab.next(kExperts * 2 * kWidth, kHidden);
    weights.gate_up_proj = {
        weights.gate_up_proj.data, DType::kBFloat16, {kExperts, 2 * kWidth, kHidden}};
    weights.down_proj = lab.next(kExperts * kHidden, kWidth);
    weights.down_proj = {weights.down_proj.data, DType::kBFloat16, {kExperts, kHidden, kWidth}};
    lab.ops->expert_ffn(
        weights, x.view(rows, kHidden),
        {static_cast<int>(num_assignments), offsets.data(), row_idx.data(), weight.data()},
        out.view(num_assignments, kHidden));
  }
  constexpr double kSize = 3.0 * kWidth * kHidden;
  report(state, 2 * kSize * static_cast<double>(used),
         2 * kSize * static_cast<double>(num_assignments));
}

// `rows` new rows behind `context` keys of one request.
void attention(benchmark::State& state, Lab& lab, bool is_global, int32_t rows, int32_t context) {
  constexpr int kBlock = 64;
  AttentionShape shape = {16, 8, 256, 256, 1024, 1e-6f, nullptr};
  if (is_global) shape = {16, 2, 512, 128, 0, 1e-6f, nullptr};
  const int32_t total = context + rows;
  const int32_t first = is_global ? 0 : std::max(0, context - shape.window + 1) / kBlock;
  const int32_t num_blocks = (total + kBlock - 1) / kBlock - first;
  Floats cache(int64_t{num_blocks} * shape.num_kv_heads * kBlock * shape.cached_dim());
  Floats q(int64_t{rows} * shape.num_heads * shape.head_dim);
  Floats out(int64_t{rows} * shape.num_heads * shape.head_dim);
  for (float& value : q.data) value *= 0.05f;
  std::vector<int32_t> ids(static_cast<size_t>(num_blocks));
  std::iota(ids.begin(), ids.end(), 0);
  std::vector<int32_t> positions(static_cast<size_t>(rows));
  std::iota(positions.begin(), positions.end(), context);
  const int32_t rows_of[] = {0, rows};
  const int32_t offsets[] = {0, num_blocks};
  const BlockTableView table = {ids.data(), offsets, &first, kBlock};
  const BatchView batch = {rows, 1, positions.data(), rows_of, nullptr, table, table};
  const KvCacheView view = {
      cache.view(num_blocks, static_cast<int64_t>(cache.data.size()) / num_blocks)};
  for (auto _ : state) {
    lab.ops->attention(shape, q.view(rows, shape.num_heads * shape.head_dim), batch, view,
                       out.view(rows, shape.num_heads * shape.head_dim));
  }
  double keys = 0;  // seen by all rows
  for (const int32_t p : positions) keys += is_global ? p + 1 : std::min(p + 1, shape.window);
  const double read = is_global ? total : std::min(total, rows + shape.window - 1);
  report(state, read * shape.num_kv_heads * shape.cached_dim() * 4,
         keys * shape.num_heads * shape.head_dim * 4);
}

// One picture of height x width patches in a tower layer of the published size.
void patch_attention(benchmark::State& state, Lab& lab, PatchGrid grid) {
  const PatchAttentionShape shape = {16, 72, 1e-6f, nullptr};
  const int64_t count = grid.num_patches();
  const int64_t width = int64_t{shape.num_heads} * shape.head_dim;
  Floats q(count * width), k(count * width), v(count * width), out(count * width);
  for (float& value : q.data) value *= 0.3f;
  const PatchQkv qkv = {q.view(count, width), k.view(count, width), v.view(count, width)};
  for (auto _ : state) lab.ops->patch_attention(shape, qkv, {1, &grid}, out.view(count, width));
  const auto n = static_cast<double>(count);
  report(state, 16 * n * static_cast<double>(width), 4 * n * n * static_cast<double>(width));
}

void sample(benchmark::State& state, Lab& lab, const SamplingRow& row, int64_t vocab_size) {
  Floats logits(vocab_size);
  std::mt19937 engine(2);
  std::normal_distribution<float> normal;
  for (float& value : logits.data) value = 3 * normal(engine);
  SampledToken sampled;
  for (auto _ : state) lab.ops->sample(logits.view(1, vocab_size), {&row, 1}, &sampled);
  benchmark::DoNotOptimize(sampled);
}

void logits(benchmark::State& state, Lab& lab, int64_t rows, int64_t vocab_size) {
  // The full table alone would not fit the pool twice: a third of it stands for it.
  const int64_t n = std::min<int64_t>(vocab_size, 65536);
  Floats x(rows * kHidden);
  Floats out(rows * n);
  for (auto _ : state) {
    lab.ops->logits(x.view(rows, kHidden), lab.next(n, kHidden), 30, out.view(rows, n));
  }
  report(state, static_cast<double>(2 * n * kHidden), static_cast<double>(2 * rows * n * kHidden));
}

template <typename Function>
void add(const std::string& name, const Function& function) {
  benchmark::RegisterBenchmark(name.c_str(), function)
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
}

void add_weights(Lab& lab) {
  struct Shape {
    const char* name;
    int64_t k, n;
  };
  const Shape shapes[] = {{"q_sliding", kHidden, 4096},
                          {"o_sliding", 4096, kHidden},
                          {"o_global", 8192, kHidden},
                          {"k_global", kHidden, 1024},
                          {"router", kHidden, 128}};
  for (const int64_t rows : {1, 2, 4, 16, 64, 512}) {
    const std::string suffix = "/rows:" + std::to_string(rows);
    for (const Shape& s : shapes) {
      if (rows != 1 && rows != 512 && s.n != 4096) continue;
      add(std::string("BM_Linear/") + s.name + suffix,
          [&lab, rows, s](benchmark::State& state) { linear(state, lab, rows, s.k, s.n); });
    }
    add("BM_GatedMlp" + suffix, [&lab, rows](auto& state) { gated_mlp(state, lab, rows); });
    add("BM_ExpertFfn/experts:32/top_k:8" + suffix,
        [&lab, rows](auto& state) { expert_ffn(state, lab, rows); });
  }
  add("BM_Logits/rows:1/vocabulary:65536", [&lab](auto& state) { logits(state, lab, 1, 262144); });
}

void add_attention(Lab& lab) {
  for (const bool is_global : {false, true}) {
    const std::string kind = is_global ? "BM_Attention/global" : "BM_Attention/sliding";
    for (const int32_t context : {4096, 32768, 262143}) {
      if (!is_global && context > 4096) continue;
      add(kind + "/decode/context:" + std::to_string(context),
          [&lab, is_global, context](auto& state) {
            attention(state, lab, is_global, 1, context);
          });
    }
    for (const int32_t context : {0, 4096}) {
      add(kind + "/prefill:512/context:" + std::to_string(context),
          [&lab, is_global, context](auto& state) {
            attention(state, lab, is_global, 512, context);
          });
    }
  }
}

void add_patch_attention(Lab& lab) {
  for (const PatchGrid grid : {PatchGrid{18, 33}, PatchGrid{36, 66}}) {
    add("BM_PatchAttention/patches:" + std::to_string(grid.num_patches()),
        [&lab, grid](auto& state) { patch_attention(state, lab, grid); });
  }
}

void add_sampling(Lab& lab) {
  struct Case {
    const char* name;
    SamplingRow row;
  };
  const Case cases[] = {{"greedy", {.temperature = 0}},
                        {"top_k:64/top_p:0.95", {.top_k = 64, .top_p = 0.95f}},
                        {"top_p:0.95", {.top_p = 0.95f}},
                        {"plain", {}},
                        {"top_k:64/logprobs:20", {.top_k = 64, .num_top_logprobs = 20}}};
  for (const Case& c : cases) {
    add(std::string("BM_Sample/vocabulary:262144/") + c.name,
        [&lab, c](auto& state) { sample(state, lab, c.row, 262144); });
  }
}

}  // namespace
}  // namespace beryl::kernels

int main(int argc, char** argv) {
  constexpr const char* kThreads = "--threads=";
  int num_threads = 2;
  if (argc > 1 && std::strncmp(argv[1], kThreads, std::strlen(kThreads)) == 0) {
    num_threads = std::max(1, std::atoi(argv[1] + std::strlen(kThreads)));
    --argc;
    ++argv;
  }
  benchmark::Initialize(&argc, argv);
  beryl::kernels::Lab lab(num_threads);
  beryl::kernels::add("BM_Read", [&](auto& state) { beryl::kernels::read_pool(state, lab); });
  beryl::kernels::add_weights(lab);
  beryl::kernels::add_attention(lab);
  beryl::kernels::add_patch_attention(lab);
  beryl::kernels::add_sampling(lab);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
