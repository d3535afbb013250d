// exp, tanh and GELU on vectors. Errors against the exact result, measured by tests/kernels/:
// exp 2 ulp (0 below -86.9, near the smallest normal number), tanh 3 ulp,
// GELU 4 ulp of its largest factor.
#pragma once

#include "kernels/cpu/inner/simd.h"

namespace beryl::kernels::cpu::BERYL_ISA {

// NaN stays NaN; results above exp(88.7) stop there.
BERYL_INLINE Vec exp(Vec x) {
  const Vec lowest = broadcast(-86.9f);
  const Vec clamped = max(lowest, min(broadcast(88.7f), x));
  const Vec n = round(mul(clamped, broadcast(1.44269504f)));
  // ln 2 in two parts, the first with 9 bits, so that n times it is exact.
  Vec r = fma(n, broadcast(-0.693359375f), clamped);
  r = fma(n, broadcast(2.12194440e-4f), r);
  // Taylor to r^7: |r| <= 0.347, the rest is below 6e-9.
  Vec sum = broadcast(1.0f / 5040);
  sum = fma(sum, r, broadcast(1.0f / 720));
  sum = fma(sum, r, broadcast(1.0f / 120));
  sum = fma(sum, r, broadcast(1.0f / 24));
  sum = fma(sum, r, broadcast(1.0f / 6));
  sum = fma(sum, r, broadcast(0.5f));
  sum = fma(mul(r, r), sum, r);
  sum = add(sum, broadcast(1.0f));
  // In two steps, because n reaches 128; n - 1 is at least -126.
  const Vec result = mul(mul(sum, power_of_two(sub(n, broadcast(1.0f)))), broadcast(2.0f));
  return select_less(x, lowest, zero(), result);
}

BERYL_INLINE Vec tanh(Vec x) {
  const Vec one = broadcast(1.0f);
  const Vec size = max(x, sub(zero(), x));
  // Below 1: the seventh convergent of the continued fraction, error below 1e-9.
  const Vec s = mul(x, x);
  Vec top = add(s, broadcast(378.0f));
  top = fma(top, s, broadcast(17325.0f));
  top = fma(top, s, broadcast(135135.0f));
  Vec bottom = fma(s, broadcast(28.0f), broadcast(3150.0f));
  bottom = fma(bottom, s, broadcast(62370.0f));
  bottom = fma(bottom, s, broadcast(135135.0f));
  const Vec small = div(mul(x, top), bottom);
  const Vec large = sub(one, div(broadcast(2.0f), add(exp(add(size, size)), one)));
  const Vec signed_large = select_less(x, zero(), sub(zero(), large), large);
  // A NaN compares false and leaves through exp.
  return select_less(size, one, small, signed_large);
}

// 0.5 z (1 + tanh u) = z / (1 + exp(-2 u)), u = sqrt(2 / pi) (z + 0.044715 z^3): no cancellation.
BERYL_INLINE Vec gelu_tanh(Vec z) {
  const Vec cubic = fma(mul(z, z), broadcast(0.044715f), broadcast(1.0f));
  const Vec u = mul(mul(z, cubic), broadcast(-2.0f * 0.7978845608f));
  return div(z, add(broadcast(1.0f), exp(u)));
}

}  // namespace beryl::kernels::cpu::BERYL_ISA
