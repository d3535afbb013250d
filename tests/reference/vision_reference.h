// The operations of the vision tower (kernels/vision.h) once more, in double precision and naive
// loops, for one picture.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/reference/ops_reference.h"

namespace beryl::reference {

struct Picture {
  int height = 0;
  int width = 0;
  std::vector<uint8_t> pixels;  // [height, width, 3]
};

Matrix cut_patches(const Picture& picture, int patch_size);

struct PatchAttentionLayer {
  int num_heads = 0;
  int head_dim = 0;
  double eps = 0;
  std::vector<float> inv_freq;  // [head_dim / 4]
  Matrix q_proj, k_proj, v_proj;
  Vector q_norm, k_norm;
};

// Attention of all patches x [height * width, H] of one picture with each other.
Matrix patch_attention(const PatchAttentionLayer& layer, const Matrix& x, int width);

// Means of side x side squares, times scale, standardised; empty vectors leave that out.
Matrix pool_patches(const Matrix& x, int width, int side, double scale, const Vector& std_bias,
                    const Vector& std_scale);

}  // namespace beryl::reference
