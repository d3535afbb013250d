#include "kernels/cpu/linear.h"

#include <algorithm>

namespace beryl::kernels::cpu {
namespace {

constexpr int64_t kColUnit = 24;  // whole register tiles of every instruction set
constexpr int64_t kParallelRows = 8;

// Distance of packed rows: not a multiple of 4 KB, where rows would share the same cache sets.
int64_t row_stride(int64_t k) {
  const int64_t size = packed_size(k);
  return size % 1024 == 0 ? size + kPackUnit : size;
}

}  // namespace

void PackedRows::resize(int64_t num_rows, int64_t k) {
  const int64_t stride = row_stride(k);
  float* memory = memory_.reserve(num_rows * stride);
  rows_.resize(static_cast<size_t>(num_rows));
  for (int64_t i = 0; i < num_rows; ++i) rows_[static_cast<size_t>(i)] = memory + i * stride;
}

void PackedRows::pack(const Context& context, const float* x, int64_t num_rows, int64_t k) {
  resize(num_rows, k);
  context.pool.parallel_for(num_rows, kParallelRows, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      context.kernels.pack_row(x + i * k, static_cast<int>(k), row(i));
    }
  });
}

void run_linears(const Context& context, const PackedRows& x, int64_t k,
                 std::span<const LinearJob> jobs) {
  if (x.num_rows() == 0) return;
  const auto num_units = [](const LinearJob& job) {
    return (job.num_cols + kColUnit - 1) / kColUnit;
  };
  int64_t total = 0;
  for (const LinearJob& job : jobs) total += num_units(job);
  context.pool.run([&](int thread_idx) {
    CostShare share(total, thread_idx, context.pool.num_threads());
    for (const LinearJob& job : jobs) {
      const IndexRange units = share.take(num_units(job), 1);
      if (units.empty()) continue;
      MatmulArgs args;
      args.x_rows = x.rows();
      args.num_rows = static_cast<int>(x.num_rows());
      args.k = static_cast<int>(k);
      args.weight = job.weight;
      args.begin_col = static_cast<int>(units.begin * kColUnit);
      args.end_col = static_cast<int>(std::min(units.end * kColUnit, job.num_cols));
      args.out = job.out;
      args.out_stride = job.num_cols;
      context.kernels.matmul(args);
    }
  });
}

}  // namespace beryl::kernels::cpu
