#include "kernels/cpu/ffn.h"

#include <algorithm>

namespace beryl::kernels::cpu {
namespace {

constexpr int64_t kColUnit = kPackUnit;       // inner rows are packed by whole units
constexpr int64_t kBlockCols = 3 * kColUnit;  // columns of gate and up in hand

// Reading a weight costs about as much as multiplying it with a few rows.
constexpr int64_t kReadCost = 6;

int64_t unit_cost(const FfnJob& job) {
  return kReadCost + job.num_rows;
}

int64_t num_units(int64_t num_cols) {
  return (num_cols + kColUnit - 1) / kColUnit;
}

// Calls body(job, columns) for this thread's share of all columns of all jobs.
template <typename Body>
void for_share(const Context& context, std::span<const FfnJob> jobs, int64_t num_cols,
               const Body& body) {
  int64_t total = 0;
  for (const FfnJob& job : jobs) total += num_units(num_cols) * unit_cost(job);
  context.pool.run([&](int thread_idx) {
    CostShare share(total, thread_idx, context.pool.num_threads());
    for (const FfnJob& job : jobs) {
      const IndexRange units = share.take(num_units(num_cols), unit_cost(job));
      if (units.empty()) continue;
      body(thread_idx, job,
           IndexRange{units.begin * kColUnit, std::min(units.end * kColUnit, num_cols)});
    }
  });
}

}  // namespace

void Ffn::run_gate_up(const FfnRows& rows, const FfnJob& job, IndexRange cols, Scratch& block) {
  const int64_t block_size = job.num_rows * kBlockCols;
  float* gate = block.reserve(2 * block_size);
  float* up = gate + block_size;
  MatmulArgs args;
  args.x_rows = rows.x + job.first_row;
  args.num_rows = static_cast<int>(job.num_rows);
  args.k = static_cast<int>(rows.hidden);
  args.out_stride = kBlockCols;
  for (int64_t begin = cols.begin; begin < cols.end; begin += kBlockCols) {
    const int64_t end = std::min(begin + kBlockCols, cols.end);
    args.begin_col = 0;
    args.end_col = static_cast<int>(end - begin);
    args.weight = job.gate + begin * rows.hidden;
    args.out = gate;
    context_.kernels.matmul(args);
    args.weight = job.up + begin * rows.hidden;
    args.out = up;
    context_.kernels.matmul(args);
    for (int64_t i = 0; i < job.num_rows; ++i) {
      context_.kernels.gelu_mul_pack(gate + i * kBlockCols, up + i * kBlockCols,
                                     static_cast<int>(end - begin),
                                     inner_.row(job.first_row + i) + begin);
    }
  }
}

void Ffn::run_down(const FfnRows& rows, const FfnJob& job, IndexRange cols) {
  MatmulArgs args;
  args.x_rows = inner_.rows() + job.first_row;
  args.num_rows = static_cast<int>(job.num_rows);
  args.k = static_cast<int>(rows.width);
  args.weight = job.down;
  args.begin_col = static_cast<int>(cols.begin);
  args.end_col = static_cast<int>(cols.end);
  args.out = rows.out + job.first_row * rows.hidden;
  args.out_stride = rows.hidden;
  context_.kernels.matmul(args);
  if (rows.row_scale == nullptr) return;
  for (int64_t i = job.first_row; i < job.first_row + job.num_rows; ++i) {
    float* out = rows.out + i * rows.hidden + cols.begin;
    context_.kernels.scale_row(out, rows.row_scale[i], static_cast<int>(cols.end - cols.begin),
                               out);
  }
}

void Ffn::run(const FfnRows& rows, std::span<const FfnJob> jobs) {
  if (jobs.empty()) return;
  inner_.resize(rows.num_rows, rows.width);
  for_share(context_, jobs, rows.width, [&](int thread_idx, const FfnJob& job, IndexRange cols) {
    run_gate_up(rows, job, cols, blocks_[static_cast<size_t>(thread_idx)]);
  });
  for_share(context_, jobs, rows.hidden,
            [&](int, const FfnJob& job, IndexRange cols) { run_down(rows, job, cols); });
}

}  // namespace beryl::kernels::cpu
