#include "tests/reference/ops_reference.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace beryl::reference {
namespace {

// Rotates the pairs (i, i + head_dim / 2) of one head.
void rotate(const AttentionLayer& layer, int64_t position, double* head) {
  const int half = layer.head_dim / 2;
  for (int i = 0; i < layer.rotary_dim / 2; ++i) {
    const float angle = static_cast<float>(position) * layer.inv_freq[static_cast<size_t>(i)];
    const double c = std::cos(static_cast<double>(angle));
    const double s = std::sin(static_cast<double>(angle));
    const double a = head[i];
    const double b = head[i + half];
    head[i] = a * c - b * s;
    head[i + half] = b * c + a * s;
  }
}

Matrix norm_heads(const Matrix& x, int head_dim, const Vector& weight, double eps) {
  Matrix heads(x.num_rows * x.num_cols / head_dim, head_dim);
  heads.data = x.data;
  Matrix normed = rms_norm(heads, weight, eps);
  Matrix out(x.num_rows, x.num_cols);
  out.data = normed.data;
  return out;
}

void rotate_all(const AttentionLayer& layer, Matrix& x) {
  for (int64_t t = 0; t < x.num_rows; ++t) {
    for (int64_t c = 0; c < x.num_cols; c += layer.head_dim) rotate(layer, t, &x.at(t, c));
  }
}

double dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

Matrix linear(const Matrix& x, const Matrix& weight) {
  Matrix out(x.num_rows, weight.num_rows);
  for (int64_t t = 0; t < x.num_rows; ++t) {
    for (int64_t n = 0; n < weight.num_rows; ++n) {
      double sum = 0;
      for (int64_t k = 0; k < x.num_cols; ++k) sum += x.at(t, k) * weight.at(n, k);
      out.at(t, n) = sum;
    }
  }
  return out;
}

Matrix rms_norm(const Matrix& x, const Vector& weight, double eps) {
  Matrix out(x.num_rows, x.num_cols);
  for (int64_t t = 0; t < x.num_rows; ++t) {
    double sum = 0;
    for (int64_t i = 0; i < x.num_cols; ++i) sum += x.at(t, i) * x.at(t, i);
    const double scale = 1 / std::sqrt(sum / static_cast<double>(x.num_cols) + eps);
    for (int64_t i = 0; i < x.num_cols; ++i) {
      const double w = weight.empty() ? 1 : weight[static_cast<size_t>(i)];
      out.at(t, i) = x.at(t, i) * scale * w;
    }
  }
  return out;
}

double gelu_tanh(double z) {
  return 0.5 * z * (1 + std::tanh(std::sqrt(2 / M_PI) * (z + 0.044715 * z * z * z)));
}

Matrix gated_mlp(const Matrix& gate, const Matrix& up, const Matrix& down, const Matrix& x) {
  Matrix inner = linear(x, gate);
  const Matrix factor = linear(x, up);
  for (size_t i = 0; i < inner.data.size(); ++i) {
    inner.data[i] = gelu_tanh(inner.data[i]) * factor.data[i];
  }
  return linear(inner, down);
}

KeysAndValues keys_and_values(const AttentionLayer& layer, const Matrix& x) {
  const Matrix c = linear(x, layer.k_proj);
  const Matrix v = layer.window == 0 ? c : linear(x, layer.v_proj);
  KeysAndValues result;
  result.keys = norm_heads(c, layer.head_dim, layer.k_norm, layer.eps);
  rotate_all(layer, result.keys);
  result.values = norm_heads(v, layer.head_dim, {}, layer.eps);
  return result;
}

Matrix attention(const AttentionLayer& layer, const Matrix& x,
                 const std::vector<int32_t>& visible_end) {
  const KeysAndValues kv = keys_and_values(layer, x);
  Matrix q = norm_heads(linear(x, layer.q_proj), layer.head_dim, layer.q_norm, layer.eps);
  rotate_all(layer, q);
  Matrix out(x.num_rows, int64_t{layer.num_heads} * layer.head_dim);
  for (int64_t t = 0; t < x.num_rows; ++t) {
    for (int h = 0; h < layer.num_heads; ++h) {
      const int64_t kv_col = int64_t{h / (layer.num_heads / layer.num_kv_heads)} * layer.head_dim;
      const int64_t col = int64_t{h} * layer.head_dim;
      Vector p(static_cast<size_t>(x.num_rows));
      double total = 0;
      for (int64_t j = 0; j < x.num_rows; ++j) {
        const bool is_visible =
            layer.window == 0 ? j <= t
                              : j > t - layer.window && j <= visible_end[static_cast<size_t>(t)];
        if (!is_visible) continue;
        p[static_cast<size_t>(j)] =
            std::exp(dot(&q.at(t, col), &kv.keys.at(j, kv_col), layer.head_dim));
        total += p[static_cast<size_t>(j)];
      }
      for (int64_t j = 0; j < x.num_rows; ++j) {
        for (int i = 0; i < layer.head_dim; ++i) {
          out.at(t, col + i) += p[static_cast<size_t>(j)] / total * kv.values.at(j, kv_col + i);
        }
      }
    }
  }
  return out;
}

Routing route(const Vector& scores, int top_k, const Vector& per_expert_scale) {
  Vector p(scores.size());
  double total = 0;
  for (size_t e = 0; e < p.size(); ++e) total += p[e] = std::exp(scores[e]);
  std::vector<int32_t> order(p.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return p[static_cast<size_t>(a)] > p[static_cast<size_t>(b)];
  });
  order.resize(static_cast<size_t>(top_k));
  Routing routing;
  double chosen = 0;
  for (const int32_t e : order) chosen += p[static_cast<size_t>(e)];
  for (const int32_t e : order) {
    const auto i = static_cast<size_t>(e);
    routing.topk_weights.push_back(p[i] / chosen * per_expert_scale[i]);
  }
  routing.topk_idx = std::move(order);
  return routing;
}

Vector sampling_distribution(const Vector& logits, const Filter& filter) {
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  if (filter.top_k > 0 && static_cast<size_t>(filter.top_k) < order.size()) {
    order.resize(static_cast<size_t>(filter.top_k));
  }
  Vector p(logits.size());
  double total = 0;
  for (const size_t id : order) {
    p[id] = std::exp((logits[id] - logits[order[0]]) / filter.temperature);
    total += p[id];
  }
  double sum = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    const bool is_kept =
        (i == 0 || sum < filter.top_p * total) && p[order[i]] >= filter.min_p * p[order[0]];
    sum += p[order[i]];
    if (!is_kept) p[order[i]] = 0;
  }
  total = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& value : p) value /= total;
  return p;
}

}  // namespace beryl::reference
