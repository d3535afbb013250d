#include "tests/reference/vision_reference.h"

#include <cmath>

namespace beryl::reference {
namespace {

// Heads of x [P, heads * head_dim]: norm, then rotation by column and row where inv_freq is given.
Matrix finish_heads(const PatchAttentionLayer& layer, const Matrix& x, const Vector& norm,
                    bool rotates, int width) {
  Matrix heads(x.num_rows * layer.num_heads, layer.head_dim);
  heads.data = x.data;
  heads = rms_norm(heads, norm, layer.eps);
  const int quarter = layer.head_dim / 4;
  for (int64_t r = 0; rotates && r < heads.num_rows; ++r) {
    const int64_t patch = r / layer.num_heads;
    for (int i = 0; i < 2 * quarter; ++i) {
      const bool by_column = i < quarter;
      const auto pair = static_cast<size_t>(i % quarter);
      const int first = i % quarter + (by_column ? 0 : 2 * quarter);
      const auto place = static_cast<float>(by_column ? patch % width : patch / width);
      const double angle = static_cast<double>(place * layer.inv_freq[pair]);
      const double a = heads.at(r, first);
      const double b = heads.at(r, first + quarter);
      heads.at(r, first) = a * std::cos(angle) - b * std::sin(angle);
      heads.at(r, first + quarter) = b * std::cos(angle) + a * std::sin(angle);
    }
  }
  Matrix out(x.num_rows, x.num_cols);
  out.data = heads.data;
  return out;
}

}  // namespace

Matrix cut_patches(const Picture& picture, int patch_size) {
  const int columns = picture.width / patch_size;
  Matrix out(int64_t{columns} * (picture.height / patch_size),
             int64_t{3} * patch_size * patch_size);
  for (int y = 0; y < picture.height; ++y) {
    for (int x = 0; x < picture.width; ++x) {
      for (int c = 0; c < 3; ++c) {
        const int64_t patch = int64_t{y / patch_size} * columns + x / patch_size;
        const int64_t place = (int64_t{y % patch_size} * patch_size + x % patch_size) * 3 + c;
        const double pixel = picture.pixels[static_cast<size_t>((y * picture.width + x) * 3 + c)];
        out.at(patch, place) = 2 * (pixel / 255 - 0.5);
      }
    }
  }
  return out;
}

Matrix patch_attention(const PatchAttentionLayer& layer, const Matrix& x, int width) {
  const Matrix q = finish_heads(layer, linear(x, layer.q_proj), layer.q_norm, true, width);
  const Matrix k = finish_heads(layer, linear(x, layer.k_proj), layer.k_norm, true, width);
  const Matrix v = finish_heads(layer, linear(x, layer.v_proj), {}, false, width);
  Matrix out(x.num_rows, q.num_cols);
  for (int64_t t = 0; t < x.num_rows; ++t) {
    for (int64_t col = 0; col < q.num_cols; col += layer.head_dim) {
      Vector p(static_cast<size_t>(x.num_rows));
      double total = 0;
      for (int64_t j = 0; j < x.num_rows; ++j) {
        double score = 0;
        for (int i = 0; i < layer.head_dim; ++i) score += q.at(t, col + i) * k.at(j, col + i);
        total += p[static_cast<size_t>(j)] = std::exp(score);
      }
      for (int64_t j = 0; j < x.num_rows; ++j) {
        for (int i = 0; i < layer.head_dim; ++i) {
          out.at(t, col + i) += p[static_cast<size_t>(j)] / total * v.at(j, col + i);
        }
      }
    }
  }
  return out;
}

Matrix pool_patches(const Matrix& x, int width, int side, double scale, const Vector& std_bias,
                    const Vector& std_scale) {
  const int columns = width / side;
  Matrix out(x.num_rows / (side * side), x.num_cols);
  for (int64_t patch = 0; patch < x.num_rows; ++patch) {
    const int64_t token = patch % width / side + columns * (patch / width / side);
    for (int64_t i = 0; i < x.num_cols; ++i) out.at(token, i) += x.at(patch, i) / (side * side);
  }
  for (int64_t t = 0; t < out.num_rows; ++t) {
    for (int64_t i = 0; i < out.num_cols; ++i) {
      double value = out.at(t, i) * scale;
      if (!std_bias.empty()) {
        value = (value - std_bias[static_cast<size_t>(i)]) * std_scale[static_cast<size_t>(i)];
      }
      out.at(t, i) = value;
    }
  }
  return out;
}

}  // namespace beryl::reference
