// Operations on single rows. Every element is computed alone, or its sum has one fixed order.
#include "kernels/cpu/inner/inner.h"
#include "kernels/cpu/inner/math.h"

namespace beryl::kernels::cpu::BERYL_ISA {
namespace {

// out[i] = function(a[i], b[i]); the last lanes are read and written partially.
template <typename Function>
BERYL_INLINE void map_rows(const float* a, const float* b, int n, float* out, Function function) {
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, function(load(a + i), load(b + i)));
  if (i < n) {
    store_partial(out + i, function(load_partial(a + i, n - i), load_partial(b + i, n - i)), n - i);
  }
}

template <typename Function>
BERYL_INLINE void map_row(const float* a, int n, float* out, Function function) {
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, function(load(a + i)));
  if (i < n) store_partial(out + i, function(load_partial(a + i, n - i)), n - i);
}

// out[i] = function(a[i], weight[i]), weight bfloat16.
template <typename Function>
BERYL_INLINE void map_weighted(const float* a, const uint16_t* weight, int n, float* out,
                               Function function) {
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, function(load(a + i), load_bf16(weight + i)));
  if (i < n) {
    const Vec last = load_bf16_partial(weight + i, n - i);
    store_partial(out + i, function(load_partial(a + i, n - i), last), n - i);
  }
}

// x[i] = function(x[i], a[i], b[i]), a and b bfloat16.
template <typename Function>
BERYL_INLINE void map_two_weights(const uint16_t* a, const uint16_t* b, int n, float* x,
                                  Function function) {
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    store(x + i, function(load(x + i), load_bf16(a + i), load_bf16(b + i)));
  }
  if (i < n) {
    const Vec last_a = load_bf16_partial(a + i, n - i);
    const Vec last_b = load_bf16_partial(b + i, n - i);
    store_partial(x + i, function(load_partial(x + i, n - i), last_a, last_b), n - i);
  }
}

constexpr int kChains = 4;  // independent sums, to hide the latency of fma

float sum_squares(const float* x, int n) {
  Vec sums[kChains];
  for (Vec& sum : sums) sum = zero();
  int i = 0;
  for (; i + kChains * kLanes <= n; i += kChains * kLanes) {
#pragma GCC unroll 4
    for (int c = 0; c < kChains; ++c) {
      const Vec value = load(x + i + c * kLanes);
      sums[c] = fma(value, value, sums[c]);
    }
  }
  for (; i < n; i += kLanes) {
    const Vec value = i + kLanes <= n ? load(x + i) : load_partial(x + i, n - i);
    sums[0] = fma(value, value, sums[0]);
  }
  return horizontal_sum(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
}

}  // namespace

void scale_row(const float* x, float factor, int n, float* out) {
  const Vec f = broadcast(factor);
  map_row(x, n, out, [&](Vec a) { return mul(a, f); });
}

void add_rows(const float* a, const float* b, int n, float* out) {
  map_rows(a, b, n, out, [](Vec x, Vec y) { return add(x, y); });
}

void add_scale_rows(const float* a, const float* b, float factor, int n, float* out) {
  const Vec f = broadcast(factor);
  map_rows(a, b, n, out, [&](Vec x, Vec y) { return mul(add(x, y), f); });
}

void softcap_row(float* x, float cap, int n) {
  const Vec c = broadcast(cap);
  map_row(x, n, x, [&](Vec a) { return mul(c, tanh(div(a, c))); });
}

void embed_row(const uint16_t* row, float scale, int n, float* out) {
  const Vec s = broadcast(scale);
  map_weighted(out, row, n, out, [&](Vec, Vec w) { return mul(w, s); });
}

void norm_row(const float* x, const uint16_t* weight, int n, float eps, float* out) {
  const double mean = static_cast<double>(sum_squares(x, n)) / n;
  const Vec s = broadcast(static_cast<float>(1.0 / __builtin_sqrt(mean + eps)));
  if (weight == nullptr) {
    map_row(x, n, out, [&](Vec a) { return mul(a, s); });
  } else {
    map_weighted(x, weight, n, out, [&](Vec a, Vec w) { return mul(mul(a, s), w); });
  }
}

void mul_weight(const uint16_t* weight, float factor, int n, float* x) {
  const Vec f = broadcast(factor);
  map_weighted(x, weight, n, x, [&](Vec a, Vec w) { return mul(mul(a, w), f); });
}

void add_weights(const uint16_t* a, const uint16_t* b, int n, float* x) {
  map_two_weights(a, b, n, x, [](Vec value, Vec v, Vec w) { return add(value, add(v, w)); });
}

void standardize_row(const uint16_t* bias, const uint16_t* scale, int n, float* x) {
  map_two_weights(bias, scale, n, x, [](Vec value, Vec v, Vec w) { return mul(sub(value, v), w); });
}

void rotate_pairs(const float* cos, const float* sin, int n, float* a, float* b) {
  for (int i = 0; i < n; i += kLanes) {
    const int left = n - i;
    const bool is_full = left >= kLanes;
    const Vec c = is_full ? load(cos + i) : load_partial(cos + i, left);
    const Vec s = is_full ? load(sin + i) : load_partial(sin + i, left);
    const Vec x = is_full ? load(a + i) : load_partial(a + i, left);
    const Vec y = is_full ? load(b + i) : load_partial(b + i, left);
    const Vec new_x = sub(mul(x, c), mul(y, s));
    const Vec new_y = add(mul(y, c), mul(x, s));
    if (is_full) {
      store(a + i, new_x);
      store(b + i, new_y);
    } else {
      store_partial(a + i, new_x, left);
      store_partial(b + i, new_y, left);
    }
  }
}

void divide_row(const float* x, float divisor, int n, float* out) {
  const Vec d = broadcast(divisor);
  map_row(x, n, out, [&](Vec a) { return div(a, d); });
}

LogitScan scan_logits(const float* logits, int n) {
  LogitScan scan;
  Vec tops = broadcast(-__builtin_inff());
  Vec nans = zero();  // counts what is not below +infinity
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Vec value = load(logits + i);
    tops = max(value, tops);
    nans = add(nans, select_less(value, broadcast(__builtin_inff()), zero(), broadcast(1.0f)));
  }
  scan.top = horizontal_max(tops);
  scan.has_nan = horizontal_sum(nans) > 0;
  for (; i < n; ++i) {
    if (logits[i] > scan.top) scan.top = logits[i];
    if (!(logits[i] < __builtin_inff())) scan.has_nan = true;
  }
  return scan;
}

double exp_masses(const float* logits, float top, float factor, int n, float* masses) {
  const Vec t = broadcast(top);
  const Vec f = broadcast(factor);
  map_row(logits, n, masses, [&](Vec a) { return exp(mul(sub(a, t), f)); });
  // Sums of short runs in float32, added in double.
  constexpr int kRun = 16 * kLanes;
  double total = 0;
  int i = 0;
  for (; i + kRun <= n; i += kRun) {
    Vec sum = zero();
    for (int j = 0; j < kRun; j += kLanes) sum = add(sum, load(masses + i + j));
    total += static_cast<double>(horizontal_sum(sum));
  }
  for (; i < n; ++i) total += static_cast<double>(masses[i]);
  return total;
}

}  // namespace beryl::kernels::cpu::BERYL_ISA
