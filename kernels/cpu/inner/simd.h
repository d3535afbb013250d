// A thin layer over vector instructions, compiled once per instruction set: each copy lives in its
// own namespace (BERYL_ISA), so the linker never mixes them. For the same reason the files of this
// folder use nothing from the standard library that could become a shared inline function.
//
// Vec holds kLanes floats. fma() is a fused multiply-add where the hardware has one; the portable
// form rounds twice.
#pragma once

#include <stdint.h>

#if defined(__AVX512F__)
#define BERYL_ISA avx512
#elif defined(__AVX2__)
#define BERYL_ISA avx2
#else
#define BERYL_ISA portable
#endif

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace beryl::kernels::cpu::BERYL_ISA {

#define BERYL_INLINE inline __attribute__((always_inline))

BERYL_INLINE void prefetch(const void* address) {
  __builtin_prefetch(address, 0, 3);
}
// Into the second-level cache.
BERYL_INLINE void prefetch_later(const void* address) {
  __builtin_prefetch(address, 0, 2);
}
BERYL_INLINE int min_int(int a, int b) {
  return a < b ? a : b;
}
BERYL_INLINE int max_int(int a, int b) {
  return a > b ? a : b;
}

#if defined(__AVX512F__)

constexpr int kLanes = 16;
struct Vec {
  __m512 v;
};

BERYL_INLINE __mmask16 mask_of(int n) {
  return static_cast<__mmask16>((1u << n) - 1u);
}
BERYL_INLINE Vec zero() {
  return {_mm512_setzero_ps()};
}
BERYL_INLINE Vec broadcast(float x) {
  return {_mm512_set1_ps(x)};
}
BERYL_INLINE Vec load(const float* p) {
  return {_mm512_loadu_ps(p)};
}
BERYL_INLINE void store(float* p, Vec a) {
  _mm512_storeu_ps(p, a.v);
}
// The first n lanes, n in [0, kLanes); the others read as zero.
BERYL_INLINE Vec load_partial(const float* p, int n) {
  return {_mm512_maskz_loadu_ps(mask_of(n), p)};
}
BERYL_INLINE void store_partial(float* p, Vec a, int n) {
  _mm512_mask_storeu_ps(p, mask_of(n), a.v);
}
BERYL_INLINE Vec add(Vec a, Vec b) {
  return {_mm512_add_ps(a.v, b.v)};
}
BERYL_INLINE Vec sub(Vec a, Vec b) {
  return {_mm512_sub_ps(a.v, b.v)};
}
BERYL_INLINE Vec mul(Vec a, Vec b) {
  return {_mm512_mul_ps(a.v, b.v)};
}
BERYL_INLINE Vec div(Vec a, Vec b) {
  return {_mm512_div_ps(a.v, b.v)};
}
BERYL_INLINE Vec fma(Vec a, Vec b, Vec c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}
// min and max return b where a lane holds a NaN.
BERYL_INLINE Vec min(Vec a, Vec b) {
  return {_mm512_min_ps(a.v, b.v)};
}
BERYL_INLINE Vec max(Vec a, Vec b) {
  return {_mm512_max_ps(a.v, b.v)};
}
BERYL_INLINE Vec round(Vec a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
BERYL_INLINE Vec select_less(Vec a, Vec b, Vec yes, Vec no) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), no.v, yes.v)};
}
// 2^n for whole n in [-126, 127].
BERYL_INLINE Vec power_of_two(Vec n) {
  const __m512i biased = _mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(biased, 23))};
}
// Elements 0, 2, 4 … and 1, 3, 5 … of 2 * kLanes bfloat16 numbers: one shift or one mask each.
BERYL_INLINE Vec load_bf16_even(const uint16_t* p) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16))};
}
BERYL_INLINE Vec load_bf16_odd(const uint16_t* p) {
  const __m512i mask = _mm512_set1_epi32(static_cast<int>(0xFFFF0000u));
  return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), mask))};
}
// kLanes bfloat16 numbers in order.
BERYL_INLINE Vec load_bf16(const uint16_t* p) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16))};
}
BERYL_INLINE float sum_lanes4(__m128 x) {
  const __m128 pair = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}
BERYL_INLINE float horizontal_sum(Vec a) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  return sum_lanes4(_mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}

#elif defined(__AVX2__)

constexpr int kLanes = 8;
struct Vec {
  __m256 v;
};

BERYL_INLINE __m256i mask_of(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
BERYL_INLINE Vec zero() {
  return {_mm256_setzero_ps()};
}
BERYL_INLINE Vec broadcast(float x) {
  return {_mm256_set1_ps(x)};
}
BERYL_INLINE Vec load(const float* p) {
  return {_mm256_loadu_ps(p)};
}
BERYL_INLINE void store(float* p, Vec a) {
  _mm256_storeu_ps(p, a.v);
}
// The first n lanes, n in [0, kLanes); the others read as zero.
BERYL_INLINE Vec load_partial(const float* p, int n) {
  return {_mm256_maskload_ps(p, mask_of(n))};
}
BERYL_INLINE void store_partial(float* p, Vec a, int n) {
  _mm256_maskstore_ps(p, mask_of(n), a.v);
}
BERYL_INLINE Vec add(Vec a, Vec b) {
  return {_mm256_add_ps(a.v, b.v)};
}
BERYL_INLINE Vec sub(Vec a, Vec b) {
  return {_mm256_sub_ps(a.v, b.v)};
}
BERYL_INLINE Vec mul(Vec a, Vec b) {
  return {_mm256_mul_ps(a.v, b.v)};
}
BERYL_INLINE Vec div(Vec a, Vec b) {
  return {_mm256_div_ps(a.v, b.v)};
}
BERYL_INLINE Vec fma(Vec a, Vec b, Vec c) {
  return {_mm256_fmadd_ps(a.v, b.v, c.v)};
}
// min and max return b where a lane holds a NaN.
BERYL_INLINE Vec min(Vec a, Vec b) {
  return {_mm256_min_ps(a.v, b.v)};
}
BERYL_INLINE Vec max(Vec a, Vec b) {
  return {_mm256_max_ps(a.v, b.v)};
}
BERYL_INLINE Vec round(Vec a) {
  return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
BERYL_INLINE Vec select_less(Vec a, Vec b, Vec yes, Vec no) {
  return {_mm256_blendv_ps(no.v, yes.v, _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ))};
}
// 2^n for whole n in [-126, 127].
BERYL_INLINE Vec power_of_two(Vec n) {
  const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(biased, 23))};
}
// Elements 0, 2, 4 … and 1, 3, 5 … of 2 * kLanes bfloat16 numbers: one shift or one mask each.
BERYL_INLINE Vec load_bf16_even(const uint16_t* p) {
  const __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(raw, 16))};
}
BERYL_INLINE Vec load_bf16_odd(const uint16_t* p) {
  const __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  const __m256i mask = _mm256_set1_epi32(static_cast<int>(0xFFFF0000u));
  return {_mm256_castsi256_ps(_mm256_and_si256(raw, mask))};
}
// kLanes bfloat16 numbers in order.
BERYL_INLINE Vec load_bf16(const uint16_t* p) {
  const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16))};
}
BERYL_INLINE float horizontal_sum(Vec a) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  const __m128 pair = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}

#else

constexpr int kLanes = 4;
typedef float Float4 __attribute__((vector_size(16)));
typedef int32_t Int4 __attribute__((vector_size(16)));
typedef uint32_t Uint4 __attribute__((vector_size(16)));
struct Vec {
  Float4 v;
};

BERYL_INLINE Vec zero() {
  return {Float4{0, 0, 0, 0}};
}
BERYL_INLINE Vec broadcast(float x) {
  return {Float4{x, x, x, x}};
}
BERYL_INLINE Vec load(const float* p) {
  Vec a;
  __builtin_memcpy(&a.v, p, sizeof(a.v));
  return a;
}
BERYL_INLINE void store(float* p, Vec a) {
  __builtin_memcpy(p, &a.v, sizeof(a.v));
}
// The first n lanes, n in [0, kLanes); the others read as zero.
BERYL_INLINE Vec load_partial(const float* p, int n) {
  Vec a = zero();
  for (int i = 0; i < n; ++i) a.v[i] = p[i];
  return a;
}
BERYL_INLINE void store_partial(float* p, Vec a, int n) {
  for (int i = 0; i < n; ++i) p[i] = a.v[i];
}
BERYL_INLINE Vec add(Vec a, Vec b) {
  return {a.v + b.v};
}
BERYL_INLINE Vec sub(Vec a, Vec b) {
  return {a.v - b.v};
}
BERYL_INLINE Vec mul(Vec a, Vec b) {
  return {a.v * b.v};
}
BERYL_INLINE Vec div(Vec a, Vec b) {
  return {a.v / b.v};
}
BERYL_INLINE Vec fma(Vec a, Vec b, Vec c) {
  return {a.v * b.v + c.v};
}
BERYL_INLINE Vec choose(Int4 mask, Vec yes, Vec no) {
  return {reinterpret_cast<Float4>((reinterpret_cast<Int4>(yes.v) & mask) |
                                   (reinterpret_cast<Int4>(no.v) & ~mask))};
}
BERYL_INLINE Vec select_less(Vec a, Vec b, Vec yes, Vec no) {
  return choose(a.v < b.v, yes, no);
}
// min and max return b where a lane holds a NaN.
BERYL_INLINE Vec min(Vec a, Vec b) {
  return choose(a.v < b.v, a, b);
}
BERYL_INLINE Vec max(Vec a, Vec b) {
  return choose(a.v > b.v, a, b);
}
// To the nearest whole number; |a| < 2^22.
BERYL_INLINE Vec round(Vec a) {
  const Vec magic = broadcast(12582912.0f);  // 1.5 * 2^23
  return sub(add(a, magic), magic);
}
// 2^n for whole n in [-126, 127].
BERYL_INLINE Vec power_of_two(Vec n) {
  const Int4 biased = __builtin_convertvector(n.v, Int4) + 127;
  return {reinterpret_cast<Float4>(biased << 23)};
}
BERYL_INLINE Uint4 load_raw(const uint16_t* p) {
  Uint4 raw;
  __builtin_memcpy(&raw, p, sizeof(raw));
  return raw;
}
// Elements 0, 2, 4 … and 1, 3, 5 … of 2 * kLanes bfloat16 numbers (little-endian).
BERYL_INLINE Vec load_bf16_even(const uint16_t* p) {
  return {reinterpret_cast<Float4>(load_raw(p) << 16)};
}
BERYL_INLINE Vec load_bf16_odd(const uint16_t* p) {
  return {reinterpret_cast<Float4>(load_raw(p) & 0xFFFF0000u)};
}
// kLanes bfloat16 numbers in order.
BERYL_INLINE Vec load_bf16(const uint16_t* p) {
  const Uint4 wide = {p[0], p[1], p[2], p[3]};
  return {reinterpret_cast<Float4>(wide << 16)};
}
BERYL_INLINE float horizontal_sum(Vec a) {
  return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]);
}

#endif

// acc = a * b + acc in place. Written as an instruction for the loops that fill all registers: left
// to itself, gcc 12 renames accumulators (and spills some) and reads a row again for every use.
BERYL_INLINE void fma_into(Vec& acc, Vec a, Vec b) {
#if defined(__AVX2__)
  asm("vfmadd231ps %2, %1, %0" : "+v"(acc.v) : "v"(a.v), "v"(b.v));
#else
  acc = fma(a, b, acc);
#endif
}

#if defined(__AVX2__)
// The sums of four vectors at half the price: the same tree as horizontal_sum for each.
BERYL_INLINE void four_sums(__m256 a, __m256 b, __m256 c, __m256 d, float* sums) {
  const __m256 ab =
      _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
  const __m256 cd =
      _mm256_add_ps(_mm256_permute2f128_ps(c, d, 0x20), _mm256_permute2f128_ps(c, d, 0x31));
  const __m256 pairs =  // a0 a1 c0 c1 | b0 b1 d0 d1
      _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xEE));
  const __m256 acbd =
      _mm256_add_ps(_mm256_shuffle_ps(pairs, pairs, 0x88), _mm256_shuffle_ps(pairs, pairs, 0xDD));
  const __m128 ac = _mm256_castps256_ps128(acbd);
  const __m128 bd = _mm256_extractf128_ps(acbd, 1);
  _mm_storeu_ps(sums, _mm_unpacklo_ps(ac, bd));
}
#if defined(__AVX512F__)
BERYL_INLINE __m256 fold(Vec a) {
  return _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
}
#else
BERYL_INLINE __m256 fold(Vec a) {
  return a.v;
}
#endif
#endif

// sums[i] = horizontal_sum(acc[i]).
template <int kCount>
BERYL_INLINE void horizontal_sums(const Vec (&acc)[kCount], float (&sums)[kCount]) {
  int i = 0;
#if defined(__AVX2__)
#pragma GCC unroll 8
  for (; i + 4 <= kCount; i += 4) {
    four_sums(fold(acc[i]), fold(acc[i + 1]), fold(acc[i + 2]), fold(acc[i + 3]), sums + i);
  }
#endif
#pragma GCC unroll 32
  for (; i < kCount; ++i) sums[i] = horizontal_sum(acc[i]);
}

BERYL_INLINE Vec load_bf16_partial(const uint16_t* p, int n) {
  uint16_t padded[kLanes] = {};
  for (int i = 0; i < n; ++i) padded[i] = p[i];
  return load_bf16(padded);
}

BERYL_INLINE float first_lane(Vec a) {
  float lanes[kLanes];
  store(lanes, a);
  return lanes[0];
}

BERYL_INLINE float horizontal_max(Vec a) {
  float lanes[kLanes];
  store(lanes, a);
  float top = lanes[0];
  for (int i = 1; i < kLanes; ++i) top = top < lanes[i] ? lanes[i] : top;
  return top;
}

}  // namespace beryl::kernels::cpu::BERYL_ISA
