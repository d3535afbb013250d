// Gated feed-forward networks, the dense one and the experts: down(gelu_tanh(gate(x)) * up(x)).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/context.h"
#include "kernels/cpu/linear.h"

namespace beryl::kernels::cpu {

// One network and its rows, consecutive rows of the output.
struct FfnJob {
  const uint16_t* gate = nullptr;  // [width, hidden]
  const uint16_t* up = nullptr;    // [width, hidden]
  const uint16_t* down = nullptr;  // [hidden, width]
  int64_t first_row = 0;
  int64_t num_rows = 0;  // > 0
};

struct FfnRows {
  const float* const* x = nullptr;  // [num_rows] packed rows of `hidden` numbers
  int64_t num_rows = 0;
  int64_t hidden = 0;
  int64_t width = 0;
  float* out = nullptr;              // [num_rows, hidden]
  const float* row_scale = nullptr;  // [num_rows] factor of each output row, or null
};

class Ffn {
 public:
  explicit Ffn(const Context& context) : context_(context), blocks_(num_threads()) {}

  void run(const FfnRows& rows, std::span<const FfnJob> jobs);

 private:
  size_t num_threads() const { return static_cast<size_t>(context_.pool.num_threads()); }
  void run_gate_up(const FfnRows& rows, const FfnJob& job, IndexRange cols, Scratch& block);
  void run_down(const FfnRows& rows, const FfnJob& job, IndexRange cols);

  Context context_;
  PackedRows inner_;             // [num_rows, width]
  std::vector<Scratch> blocks_;  // [num_threads] gate and up of some columns
};

}  // namespace beryl::kernels::cpu
