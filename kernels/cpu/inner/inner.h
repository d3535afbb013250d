// Functions that the files of this folder put into the table of their instruction set.
#pragma once

#include "kernels/cpu/inner/simd.h"
#include "kernels/cpu/kernel_table.h"

namespace beryl::kernels::cpu::BERYL_ISA {

void pack_row(const float* x, int n, float* packed);
void matmul(const MatmulArgs& args);
void gelu_mul_pack(const float* gate, const float* up, int n, float* packed);

void scale_row(const float* x, float factor, int n, float* out);
void add_rows(const float* a, const float* b, int n, float* out);
void add_scale_rows(const float* a, const float* b, float factor, int n, float* out);
void softcap_row(float* x, float cap, int n);
void embed_row(const uint16_t* row, float scale, int n, float* out);
void norm_row(const float* x, const uint16_t* weight, int n, float eps, float* out);
void mul_weight(const uint16_t* weight, float factor, int n, float* x);
void add_weights(const uint16_t* a, const uint16_t* b, int n, float* x);
void standardize_row(const uint16_t* bias, const uint16_t* scale, int n, float* x);
void rotate_pairs(const float* cos, const float* sin, int n, float* a, float* b);
void divide_row(const float* x, float divisor, int n, float* out);

void attention_tile(const AttentionTile& tile);
void merge_softmax(const float* more, int value_dim, float* state);

LogitScan scan_logits(const float* logits, int n);
double exp_masses(const float* logits, float top, float factor, int n, float* masses);

extern const KernelTable kTable;

}  // namespace beryl::kernels::cpu::BERYL_ISA
