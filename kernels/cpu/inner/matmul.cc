// Products of packed float32 rows with bfloat16 weights.
//
// Order of every sum: K is cut at multiples of kBlockK; within a block lane l adds its elements one
// by one with fma; the lanes are added by horizontal_sum; the blocks are added in order. No tile
// shape, row count or column range changes that.
#include "kernels/cpu/inner/inner.h"
#include "kernels/cpu/inner/math.h"

namespace beryl::kernels::cpu::BERYL_ISA {
namespace {

constexpr int kUnit = 2 * kLanes;  // bfloat16 numbers of one load
// 704 divides every width of the published model but those of the heads; four rows of it and three
// weight rows fit in a first-level cache of 32 KB.
constexpr int kBlockK = 704;
constexpr int kBlockCols = 96;   // columns whose K block stays in the second-level cache
constexpr int kStreamCols = 12;  // whole tiles of any number of rows
constexpr int kStreamRows = 24;  // up to so many rows weights are walked in memory order
// bfloat16 numbers (16 KB) that the second-level cache runs ahead of weights that are read once.
// Into the first level instead, a core has too few loads in flight: half of the read bandwidth on
// Zen 5.
constexpr int64_t kAhead = 8192;
static_assert(kBlockK % kPackUnit == 0);

// Rows of the largest tile, and columns of a tile by its rows: the accumulators, one vector for
// each column, one row vector and the mask just fit in the registers (16 on AVX2 and SSE, 32 on
// AVX-512).
#if defined(__AVX512F__)
constexpr int kMaxRows = 8;
constexpr int tile_cols(int rows) {
  return rows <= 6 ? 4 : 3;
}
#else
constexpr int kMaxRows = 6;
constexpr int tile_cols(int rows) {
  return rows <= 2 ? 4 : (rows == 3 ? 3 : 2);
}
#endif

struct Tile {
  const float* const* x;  // rows
  int k_begin;
  int k_end;
  const uint16_t* weight;  // first column, at k_begin
  int64_t ldw;
  float* out;  // first row and column
  int64_t out_stride;
};

template <int kRows, int kCols>
BERYL_INLINE void accumulate(const float* const (&x)[kRows], const uint16_t* w, int64_t ldw,
                             Vec (&acc)[kRows][kCols]) {
  Vec even[kCols];
#pragma GCC unroll 8
  for (int n = 0; n < kCols; ++n) even[n] = load_bf16_even(w + n * ldw);
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
    const Vec row = load(x[m]);
#pragma GCC unroll 8
    for (int n = 0; n < kCols; ++n) fma_into(acc[m][n], row, even[n]);
  }
  Vec odd[kCols];
#pragma GCC unroll 8
  for (int n = 0; n < kCols; ++n) odd[n] = load_bf16_odd(w + n * ldw);
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
    const Vec row = load(x[m] + kLanes);
#pragma GCC unroll 8
    for (int n = 0; n < kCols; ++n) fma_into(acc[m][n], row, odd[n]);
  }
}

// kOnce: no other tile of rows reads these weights.
template <int kRows, int kCols, bool kOnce>
void run_tile(const Tile& tile) {
  Vec acc[kRows][kCols];
  const float* x[kRows];
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
    x[m] = tile.x[m] + tile.k_begin;
#pragma GCC unroll 8
    for (int n = 0; n < kCols; ++n) acc[m][n] = zero();
  }
  const int k = tile.k_end - tile.k_begin;
  const uint16_t* w = tile.weight;
  int i = 0;
  for (; i + kUnit <= k; i += kUnit, w += kUnit) {
#pragma GCC unroll 8
    for (int n = 0; n < kCols; ++n) {
      if (kOnce) {
        prefetch_later(w + n * tile.ldw + kAhead);
      } else {
        prefetch(w + (kCols + n) * tile.ldw);
      }
    }
    accumulate<kRows, kCols>(x, w, tile.ldw, acc);
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) x[m] += kUnit;
  }
  if (i < k) {
    uint16_t tail[kCols * kUnit] = {};
    for (int n = 0; n < kCols; ++n) {
      for (int j = 0; j < k - i; ++j) tail[n * kUnit + j] = w[n * tile.ldw + j];
    }
    accumulate<kRows, kCols>(x, tail, kUnit, acc);
  }
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 8
    for (int n = 0; n < kCols; ++n) {
      float* out = tile.out + m * tile.out_stride + n;
      const float sum = horizontal_sum(acc[m][n]);
      *out = tile.k_begin == 0 ? sum : *out + sum;
    }
  }
}

using TileFunction = void (*)(const Tile&);

template <int kRows, bool kOnce>
TileFunction pick_tile(bool is_full) {
  return is_full ? run_tile<kRows, tile_cols(kRows), kOnce> : run_tile<kRows, 1, kOnce>;
}

// The tile of `rows` rows and tile_cols(rows) columns, or one column.
template <bool kOnce>
TileFunction tile_function(int rows, bool is_full) {
  switch (rows) {
    case 1:
      return pick_tile<1, kOnce>(is_full);
    case 2:
      return pick_tile<2, kOnce>(is_full);
    case 3:
      return pick_tile<3, kOnce>(is_full);
    case 4:
      return pick_tile<4, kOnce>(is_full);
    case 5:
      return pick_tile<5, kOnce>(is_full);
#if defined(__AVX512F__)
    case 6:
      return pick_tile<6, kOnce>(is_full);
    case 7:
      return pick_tile<7, kOnce>(is_full);
#endif
    default:
      return pick_tile<kMaxRows, kOnce>(is_full);
  }
}

// Rows [row, row + rows) times columns [begin, end), K block at k_begin.
void run_row_tile(const MatmulArgs& args, int row, int begin, int end, int k_begin) {
  const int rows = min_int(kMaxRows, args.num_rows - row);
  const int cols = tile_cols(rows);
  Tile tile = {args.x_rows + row,
               k_begin,
               min_int(k_begin + kBlockK, args.k),
               args.weight + int64_t{begin} * args.k + k_begin,
               args.k,
               args.out + row * args.out_stride + begin,
               args.out_stride};
  int n = begin;
  const auto function = args.num_rows <= kMaxRows ? tile_function<true> : tile_function<false>;
  const TileFunction full = function(rows, true);
  for (; n + cols <= end; n += cols) {
    full(tile);
    tile.weight += int64_t{cols} * args.k;
    tile.out += cols;
  }
  const TileFunction single = function(rows, false);
  for (; n < end; ++n) {
    single(tile);
    tile.weight += args.k;
    ++tile.out;
  }
}

}  // namespace

void matmul(const MatmulArgs& args) {
  // One tile of rows takes whole rows of weights, so that all of memory is read once, in order.
  const int block = args.num_rows <= kMaxRows      ? tile_cols(args.num_rows)
                    : args.num_rows <= kStreamRows ? kStreamCols
                                                   : kBlockCols;
  for (int begin = args.begin_col; begin < args.end_col; begin += block) {
    const int end = min_int(begin + block, args.end_col);
    for (int k = 0; k < args.k; k += kBlockK) {
      for (int row = 0; row < args.num_rows; row += kMaxRows) {
        run_row_tile(args, row, begin, end, k);
      }
    }
  }
}

void pack_row(const float* x, int n, float* packed) {
  const int end = static_cast<int>(packed_size(n));
  for (int i = 0; i < end; i += kUnit) {
    for (int j = 0; j < kLanes; ++j) {
      packed[i + j] = i + 2 * j < n ? x[i + 2 * j] : 0.0f;
      packed[i + kLanes + j] = i + 2 * j + 1 < n ? x[i + 2 * j + 1] : 0.0f;
    }
  }
}

void gelu_mul_pack(const float* gate, const float* up, int n, float* packed) {
  float product[kUnit];
  const int end = static_cast<int>(packed_size(n));
  for (int i = 0; i < end; i += kUnit) {
    for (int half = 0; half < kUnit; half += kLanes) {
      const int left = n - i - half;
      Vec value = zero();
      if (left >= kLanes) {
        value = mul(gelu_tanh(load(gate + i + half)), load(up + i + half));
      } else if (left > 0) {
        value =
            mul(gelu_tanh(load_partial(gate + i + half, left)), load_partial(up + i + half, left));
      }
      store(product + half, value);
    }
    for (int j = 0; j < kLanes; ++j) {
      packed[i + j] = product[2 * j];
      packed[i + kLanes + j] = product[2 * j + 1];
    }
  }
}

}  // namespace beryl::kernels::cpu::BERYL_ISA
