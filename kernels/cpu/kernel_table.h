// The inner loops, one table per instruction set. Plain pointers and sizes only: the functions are
// compiled with other flags than the rest (kernels/cpu/inner/).
//
// Packed rows: dot products read a bfloat16 weight as its even and its odd elements (one shift, one
// mask), so a row of x is first brought into that order and padded with zeros to kPackUnit.
#pragma once

#include <cstdint>

#include "kernels/cpu/isa.h"

namespace beryl::kernels::cpu {

constexpr int kPackUnit = 32;  // a multiple of two vectors of every instruction set
constexpr int kKeyTile = 64;   // most keys of one AttentionTile

constexpr int64_t packed_size(int64_t n) {
  return (n + kPackUnit - 1) / kPackUnit * kPackUnit;
}

// out[m, n] = x[m] . weight[n] for columns [begin_col, end_col).
struct MatmulArgs {
  const float* const* x_rows = nullptr;  // [num_rows] packed rows of k numbers
  int num_rows = 0;
  int k = 0;
  const uint16_t* weight = nullptr;  // [*, k] bfloat16
  int begin_col = 0;
  int end_col = 0;
  float* out = nullptr;  // column n of row m at out[m * out_stride + n]
  int64_t out_stride = 0;
};

// State of a softmax: sum[value_dim] of values times exp(score - top), top (the largest score so
// far), total (the sum of exp(score - top)); padded to a cache line. No keys yet: zeros, top
// -infinity.
constexpr int64_t state_size(int value_dim) {
  return (int64_t{value_dim} + 2 + 15) / 16 * 16;
}

// Keys of one tile seen by a set of queries; continues their softmax. Lies within one block.
struct AttentionTile {
  const float* queries = nullptr;  // [num_queries, key_dim]
  int num_queries = 0;
  int key_dim = 0;
  int value_dim = 0;
  const float* keys = nullptr;    // [num_keys, key_stride]
  const float* values = nullptr;  // [num_keys, value_stride]
  int64_t key_stride = 0;
  int64_t value_stride = 0;
  int num_keys = 0;                    // <= kKeyTile
  int32_t position = 0;                // of the first key
  const int32_t* first_key = nullptr;  // [num_queries] first and last position seen
  const int32_t* last_key = nullptr;   // [num_queries]
  float* scores = nullptr;             // [num_queries, kKeyTile] work space
  float* state = nullptr;              // [num_queries, state_size(value_dim)]
};

struct LogitScan {
  float top = 0;         // largest, NaN ignored
  bool has_nan = false;  // a NaN or +infinity anywhere
};

struct KernelTable {
  // Linear layers.
  void (*pack_row)(const float* x, int n, float* packed);
  void (*matmul)(const MatmulArgs& args);
  // packed = pack_row(gelu_tanh(gate) * up)
  void (*gelu_mul_pack)(const float* gate, const float* up, int n, float* packed);

  // Rows of n numbers; in and out may be the same.
  void (*scale_row)(const float* x, float factor, int n, float* out);
  void (*add_rows)(const float* a, const float* b, int n, float* out);
  void (*add_scale_rows)(const float* a, const float* b, float factor, int n, float* out);
  void (*softcap_row)(float* x, float cap, int n);  // cap * tanh(x / cap)
  void (*embed_row)(const uint16_t* row, float scale, int n, float* out);
  // weight may be null.
  void (*norm_row)(const float* x, const uint16_t* weight, int n, float eps, float* out);
  void (*mul_weight)(const uint16_t* weight, float factor, int n,
                     float* x);  // x *= weight * factor
  void (*add_weights)(const uint16_t* a, const uint16_t* b, int n, float* x);  // x += a + b
  // x = (x - bias) * scale
  void (*standardize_row)(const uint16_t* bias, const uint16_t* scale, int n, float* x);
  // (a, b) = (a cos - b sin, b cos + a sin)
  void (*rotate_pairs)(const float* cos, const float* sin, int n, float* a, float* b);

  // Attention.
  void (*attention_tile)(const AttentionTile& tile);
  // Joins the state `more` of later keys to `state`.
  void (*merge_softmax)(const float* more, int value_dim, float* state);
  void (*divide_row)(const float* x, float divisor, int n, float* out);

  // Sampling.
  LogitScan (*scan_logits)(const float* logits, int n);
  // masses = exp((logits - top) * factor); returns their sum.
  double (*exp_masses)(const float* logits, float top, float factor, int n, float* masses);
};

const KernelTable& kernel_table(Isa isa);  // isa is supported

}  // namespace beryl::kernels::cpu
