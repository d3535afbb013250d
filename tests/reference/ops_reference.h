// Operations of kernels/ops.h once more, in double precision and naive loops: what results must
// agree with. Dense arrays, no cache, no blocks, no threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace beryl::reference {

using Vector = std::vector<double>;

struct Matrix {
  int64_t num_rows = 0;
  int64_t num_cols = 0;
  Vector data;

  Matrix() = default;
  Matrix(int64_t rows, int64_t cols)
      : num_rows(rows), num_cols(cols), data(static_cast<size_t>(rows * cols)) {}
  double& at(int64_t r, int64_t c) { return data[static_cast<size_t>(r * num_cols + c)]; }
  const double& at(int64_t r, int64_t c) const {
    return data[static_cast<size_t>(r * num_cols + c)];
  }
};

Matrix linear(const Matrix& x, const Matrix& weight);
// An empty weight counts as ones.
Matrix rms_norm(const Matrix& x, const Vector& weight, double eps);
double gelu_tanh(double z);
Matrix gated_mlp(const Matrix& gate, const Matrix& up, const Matrix& down, const Matrix& x);

struct AttentionLayer {
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int rotary_dim = 0;
  int window = 0;  // 0: a global layer, whose V is the norm of k_proj's output
  double eps = 0;
  std::vector<float> inv_freq;  // [rotary_dim / 2]
  Matrix q_proj, k_proj, v_proj;
  Vector q_norm, k_norm;
};

// Keys and values of rows x [T, H] at positions 0 … T - 1.
struct KeysAndValues {
  Matrix keys;    // [T, num_kv_heads * head_dim]
  Matrix values;  // the same
};
KeysAndValues keys_and_values(const AttentionLayer& layer, const Matrix& x);

// Attention of all rows x [T, H] of one request; visible_end[t] is the last position that row t
// sees on sliding layers.
Matrix attention(const AttentionLayer& layer, const Matrix& x,
                 const std::vector<int32_t>& visible_end);

struct Routing {
  std::vector<int32_t> topk_idx;
  Vector topk_weights;
};
Routing route(const Vector& scores, int top_k, const Vector& per_expert_scale);

// Probabilities that sampling draws from, by token id.
struct Filter {
  double temperature = 1;
  int top_k = 0;
  double top_p = 1;
  double min_p = 0;
};
Vector sampling_distribution(const Vector& logits, const Filter& filter);

}  // namespace beryl::reference
