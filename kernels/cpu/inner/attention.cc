// Attention of a few queries over one tile of keys.
//
// A query sees the keys [first_key, last_key] of the tile, nothing else: the scores of hidden keys
// are thrown away and their values are skipped, not added with weight zero, so what they hold
// cannot matter. Scores are dot products
// (lanes along the head, then horizontal_sum); values are added key by key.
#include "kernels/cpu/inner/inner.h"
#include "kernels/cpu/inner/math.h"

namespace beryl::kernels::cpu::BERYL_ISA {
namespace {

constexpr int kMaxQueries = 4;
constexpr int kKeysAtOnce = 3;

template <int kQueries, int kKeys>
BERYL_INLINE void accumulate(const float* q, const float* k, const AttentionTile& tile, int left,
                             Vec (&acc)[kQueries * kKeys]) {
  Vec key[kKeys];
#pragma GCC unroll 8
  for (int j = 0; j < kKeys; ++j) {
    const float* p = k + j * tile.key_stride;
    key[j] = left >= kLanes ? load(p) : load_partial(p, left);
  }
#pragma GCC unroll 8
  for (int i = 0; i < kQueries; ++i) {
    const float* p = q + i * int64_t{tile.key_dim};
    const Vec query = left >= kLanes ? load(p) : load_partial(p, left);
#pragma GCC unroll 8
    for (int j = 0; j < kKeys; ++j) fma_into(acc[i * kKeys + j], query, key[j]);
  }
}

// Scores of queries [query, query + kQueries) and keys [key, key + kKeys).
template <int kQueries, int kKeys>
void score_tile(const AttentionTile& tile, int query, int key) {
  Vec acc[kQueries * kKeys];
#pragma GCC unroll 8
  for (int i = 0; i < kQueries; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kKeys; ++j) acc[i * kKeys + j] = zero();
  }
  const float* q = tile.queries + int64_t{query} * tile.key_dim;
  const float* k = tile.keys + key * tile.key_stride;
  int d = 0;
  for (; d + kLanes <= tile.key_dim; d += kLanes) {
    accumulate<kQueries, kKeys>(q + d, k + d, tile, kLanes, acc);
  }
  if (d < tile.key_dim) {
    accumulate<kQueries, kKeys>(q + d, k + d, tile, tile.key_dim - d, acc);
  }
  float sums[kQueries * kKeys];
  horizontal_sums(acc, sums);
  for (int i = 0; i < kQueries; ++i) {
    float* scores = tile.scores + (query + i) * kKeyTile + key;
    for (int j = 0; j < kKeys; ++j) scores[j] = sums[i * kKeys + j];
  }
}

template <int kKeys>
void score_queries(const AttentionTile& tile, int key) {
  int query = 0;
  for (; query + kMaxQueries <= tile.num_queries; query += kMaxQueries) {
    score_tile<kMaxQueries, kKeys>(tile, query, key);
  }
  switch (tile.num_queries - query) {
    case 3:
      score_tile<3, kKeys>(tile, query, key);
      break;
    case 2:
      score_tile<2, kKeys>(tile, query, key);
      break;
    case 1:
      score_tile<1, kKeys>(tile, query, key);
      break;
    default:
      break;
  }
}

constexpr int kFetchAhead = 4 * kKeysAtOnce;  // keys; the next ones usually follow in memory

BERYL_INLINE void prefetch_row(const float* row, int n) {
  for (int i = 0; i < n; i += 16) prefetch(row + i);
}

// Fetches coming keys, and the values of these, while the scores are computed.
void compute_scores(const AttentionTile& tile) {
  const bool has_own_values = tile.values != tile.keys;
  int key = 0;
  for (; key + kKeysAtOnce <= tile.num_keys; key += kKeysAtOnce) {
    for (int j = key; j < key + kKeysAtOnce; ++j) {
      prefetch_row(tile.keys + (j + kFetchAhead) * tile.key_stride, tile.key_dim);
      if (has_own_values) prefetch_row(tile.values + j * tile.value_stride, tile.value_dim);
    }
    score_queries<kKeysAtOnce>(tile, key);
  }
  for (; key < tile.num_keys; ++key) score_queries<1>(tile, key);
}

struct KeyRange {
  int begin;
  int end;
};

BERYL_INLINE KeyRange visible(const AttentionTile& tile, int query) {
  return {max_int(tile.first_key[query] - tile.position, 0),
          min_int(tile.last_key[query] + 1 - tile.position, tile.num_keys)};
}

BERYL_INLINE float* state_of(const AttentionTile& tile, int query) {
  return tile.state + query * state_size(tile.value_dim);
}

// Turns scores into weights and brings the state of the query to the new largest score.
void update_softmax(const AttentionTile& tile, int query) {
  const KeyRange keys = visible(tile, query);
  if (keys.begin >= keys.end) return;
  float* scores = tile.scores + query * kKeyTile;
  const int padded = (tile.num_keys + kLanes - 1) / kLanes * kLanes;
  for (int j = 0; j < keys.begin; ++j) scores[j] = -__builtin_inff();
  for (int j = keys.end; j < padded; ++j) scores[j] = -__builtin_inff();

  Vec tops = load(scores);
  for (int j = kLanes; j < padded; j += kLanes) tops = max(tops, load(scores + j));
  float* sum = state_of(tile, query);
  float* old = sum + tile.value_dim;  // top, total
  const float old_top = old[0];
  const float tile_top = horizontal_max(tops);
  const float top = old_top < tile_top ? tile_top : old_top;
  const Vec t = broadcast(top);
  Vec sums = zero();
  for (int j = 0; j < padded; j += kLanes) {
    const Vec weight = exp(sub(load(scores + j), t));
    store(scores + j, weight);
    sums = add(sums, weight);
  }
  const float decay = first_lane(exp(broadcast(old_top - top)));
  old[0] = top;
  old[1] = old[1] * decay + horizontal_sum(sums);
  if (decay != 1.0f) scale_row(sum, decay, tile.value_dim, sum);
}

// sum[query] += weight * value for kQueries queries, keys [begin, end) and kVecs vectors from d on.
template <int kQueries, int kVecs>
BERYL_INLINE void add_values(const AttentionTile& tile, int query, KeyRange keys, int d) {
  Vec acc[kQueries][kVecs];
  const int64_t stride = state_size(tile.value_dim);
  float* sum = state_of(tile, query) + d;
#pragma GCC unroll 8
  for (int i = 0; i < kQueries; ++i) {
#pragma GCC unroll 8
    for (int c = 0; c < kVecs; ++c) acc[i][c] = load(sum + i * stride + c * kLanes);
  }
  const float* value = tile.values + keys.begin * tile.value_stride + d;
  const float* weight = tile.scores + query * kKeyTile;
  for (int j = keys.begin; j < keys.end; ++j, value += tile.value_stride) {
    Vec v[kVecs];
#pragma GCC unroll 8
    for (int c = 0; c < kVecs; ++c) v[c] = load(value + c * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kQueries; ++i) {
      const Vec w = broadcast(weight[i * kKeyTile + j]);
#pragma GCC unroll 8
      for (int c = 0; c < kVecs; ++c) fma_into(acc[i][c], w, v[c]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kQueries; ++i) {
#pragma GCC unroll 8
    for (int c = 0; c < kVecs; ++c) store(sum + i * stride + c * kLanes, acc[i][c]);
  }
}

// The last value_dim % kLanes numbers of each query.
template <int kQueries>
void add_values_tail(const AttentionTile& tile, int query, KeyRange keys, int d) {
  const int left = tile.value_dim - d;
  const int64_t stride = state_size(tile.value_dim);
  float* sum = state_of(tile, query) + d;
  Vec acc[kQueries];
#pragma GCC unroll 8
  for (int i = 0; i < kQueries; ++i) acc[i] = load_partial(sum + i * stride, left);
  const float* weight = tile.scores + query * kKeyTile;
  for (int j = keys.begin; j < keys.end; ++j) {
    const Vec value = load_partial(tile.values + j * tile.value_stride + d, left);
#pragma GCC unroll 8
    for (int i = 0; i < kQueries; ++i) {
      acc[i] = fma(broadcast(weight[i * kKeyTile + j]), value, acc[i]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kQueries; ++i) store_partial(sum + i * stride, acc[i], left);
}

template <int kQueries>
void add_all_values(const AttentionTile& tile, int query, KeyRange keys) {
  if (keys.begin >= keys.end) return;
  constexpr int kVecs = kQueries <= 2 ? 4 : 3;  // 8 chains or more hide the latency of fma
  int d = 0;
  for (; d + kVecs * kLanes <= tile.value_dim; d += kVecs * kLanes) {
    add_values<kQueries, kVecs>(tile, query, keys, d);
  }
  for (; d + kLanes <= tile.value_dim; d += kLanes) {
    add_values<kQueries, 1>(tile, query, keys, d);
  }
  if (d < tile.value_dim) add_values_tail<kQueries>(tile, query, keys, d);
}

// Keys that all of the queries see go through the wide form; the rest of each query comes before
// and after, so its keys are added in order.
template <int kQueries>
void add_group(const AttentionTile& tile, int query) {
  KeyRange common = visible(tile, query);
  for (int i = 1; i < kQueries; ++i) {
    const KeyRange keys = visible(tile, query + i);
    common = {max_int(common.begin, keys.begin), min_int(common.end, keys.end)};
  }
  if (common.begin >= common.end) {
    for (int i = 0; i < kQueries; ++i) add_all_values<1>(tile, query + i, visible(tile, query + i));
    return;
  }
  for (int i = 0; i < kQueries; ++i) {
    add_all_values<1>(tile, query + i, {visible(tile, query + i).begin, common.begin});
  }
  add_all_values<kQueries>(tile, query, common);
  for (int i = 0; i < kQueries; ++i) {
    add_all_values<1>(tile, query + i, {common.end, visible(tile, query + i).end});
  }
}

}  // namespace

void attention_tile(const AttentionTile& tile) {
  compute_scores(tile);
  for (int query = 0; query < tile.num_queries; ++query) update_softmax(tile, query);
  int query = 0;
  for (; query + 4 <= tile.num_queries; query += 4) add_group<4>(tile, query);
  for (; query + 2 <= tile.num_queries; query += 2) add_group<2>(tile, query);
  for (; query < tile.num_queries; ++query) add_group<1>(tile, query);
}

void merge_softmax(const float* more, int value_dim, float* state) {
  const float* more_end = more + value_dim;  // top, total
  float* end = state + value_dim;
  if (more_end[1] == 0.0f) return;
  if (end[1] == 0.0f) {
    for (int i = 0; i < value_dim + 2; ++i) state[i] = more[i];
    return;
  }
  const float top = end[0] < more_end[0] ? more_end[0] : end[0];
  const Vec old_factor = exp(broadcast(end[0] - top));
  const Vec new_factor = exp(broadcast(more_end[0] - top));
  end[0] = top;
  end[1] = end[1] * first_lane(old_factor) + more_end[1] * first_lane(new_factor);
  int d = 0;
  for (; d + kLanes <= value_dim; d += kLanes) {
    store(state + d, add(mul(load(state + d), old_factor), mul(load(more + d), new_factor)));
  }
  if (d < value_dim) {
    const int left = value_dim - d;
    const Vec sum = add(mul(load_partial(state + d, left), old_factor),
                        mul(load_partial(more + d, left), new_factor));
    store_partial(state + d, sum, left);
  }
}

}  // namespace beryl::kernels::cpu::BERYL_ISA
