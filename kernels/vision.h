// What the operations of the vision tower work on. P = patches of all pictures of a call, picture
// after picture, the rows of a picture from top to bottom; H = width of the tower.
#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace beryl::kernels {

// A picture whose sides are multiples of the patch size.
struct ImageView {
  const uint8_t* pixels = nullptr;  // host: [height, width, 3] red, green, blue
  int height = 0;
  int width = 0;
};

// Patches of a picture. Patch i of it lies in column i % width and row i / width.
struct PatchGrid {
  int height = 0;
  int width = 0;

  int64_t num_patches() const { return int64_t{height} * width; }
};

struct PatchBatch {
  int num_images = 0;
  const PatchGrid* grids = nullptr;  // [num_images], host memory

  int64_t num_patches() const {
    int64_t sum = 0;
    for (int i = 0; i < num_images; ++i) sum += grids[i].num_patches();
    return sum;
  }
};

// Every patch attends to all patches of its picture and to nothing else; score scale is 1.
struct PatchAttentionShape {
  int num_heads = 0;
  int head_dim = 0;  // a multiple of 4
  float rms_norm_eps = 0;
  // Host: [head_dim / 4] inverse frequencies. The first half of a head rotates by the column of the
  // patch, the second by its row; pair i of a half rotates its dimensions i and i + head_dim / 4.
  const float* inv_freq = nullptr;
};

struct PatchQkv {
  TensorView q;  // [P, num_heads * head_dim]
  TensorView k;  // the same
  TensorView v;  // the same
};

// A soft token is the mean of a square of patches, times `scale`, standardised where the two
// vectors are given: (mean * scale - std_bias) * std_scale.
struct PatchPooling {
  int kernel_size = 0;  // patches along each side of the square; divides the sides of each grid
  float scale = 1;
  TensorView std_bias;   // [H] bf16 or empty
  TensorView std_scale;  // [H] bf16 or empty
};

}  // namespace beryl::kernels
