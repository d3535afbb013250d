#include "kernels/cpu/attention.h"

#include <algorithm>
#include <limits>

#include "kernels/cpu/cache_layout.h"

namespace beryl::kernels::cpu {
namespace {

constexpr int kItemQueries = 32;  // queries of an item: enough work for each key tile read
constexpr int kMaxItemQueries = 64;
constexpr int64_t kItemsPerThread = 4;           // fewer: spans are given to threads one by one
constexpr int64_t kMaxPartialFloats = 16 << 20;  // 64 MB of results waiting to be merged

// First position after the tile that begins at `position`.
int32_t key_tile_end(int32_t position, int block_size) {
  const int32_t block_begin = position / block_size * block_size;
  const int32_t tile = block_begin + ((position - block_begin) / kKeyTile + 1) * kKeyTile;
  const int32_t span = (position / kSpanKeys + 1) * kSpanKeys;
  return std::min({tile, block_begin + block_size, span});
}

void clear_states(float* states, int num_queries, int value_dim) {
  const int64_t size = state_size(value_dim);
  std::fill(states, states + num_queries * size, 0.0f);
  for (int i = 0; i < num_queries; ++i) {
    states[i * size + value_dim] = -std::numeric_limits<float>::infinity();
  }
}

}  // namespace

struct Attention::Call {
  const AttentionShape& shape;
  const BatchView& batch;
  CacheLayout layout;
  const float* q;
  float* out;
  int group;    // query heads of a KV head
  int key_dim;  // numbers of a score's dot product
  int value_dim;
};

struct Attention::Queries {
  int num_queries;
  const float* vectors;  // [num_queries, key_dim]
  float* scores;
  float* states;
  int32_t first_key[kMaxItemQueries];
  int32_t last_key[kMaxItemQueries];
};

void Attention::plan(const Call& call) {
  items_.clear();
  const AttentionShape& shape = call.shape;
  const BatchView& batch = call.batch;
  const int rows_per_item = std::max(1, kItemQueries / call.group);
  int64_t num_partials = 0;
  for (int s = 0; s < batch.num_segments; ++s) {
    const int end = batch.query_start_loc[s + 1];
    for (int row = batch.query_start_loc[s]; row < end; row += rows_per_item) {
      Item item = {};
      item.segment = s;
      item.first_row = row;
      item.num_rows = std::min(rows_per_item, end - row);
      item.first_key = std::numeric_limits<int32_t>::max();
      item.last_key = -1;
      for (int t = row; t < row + item.num_rows; ++t) {
        const VisibleKeys keys = visible_keys(shape, batch, t);
        item.first_key = std::min(item.first_key, keys.first);
        item.last_key = std::max(item.last_key, keys.last);
      }
      for (item.kv_head = 0; item.kv_head < shape.num_kv_heads; ++item.kv_head) {
        item.first_partial = num_partials;
        num_partials += item.last_key / kSpanKeys - item.first_key / kSpanKeys + 1;
        items_.push_back(item);
      }
    }
  }
}

// Copies the queries of an item side by side; on global layers in the order of a cache entry, zeros
// standing before the rotated dimensions of V.
Attention::Queries Attention::gather(const Call& call, const Item& item, float* memory) const {
  const AttentionShape& shape = call.shape;
  Queries queries;
  queries.num_queries = item.num_rows * call.group;
  queries.vectors = memory;
  queries.scores = memory + int64_t{queries.num_queries} * call.key_dim;
  queries.states = queries.scores + int64_t{queries.num_queries} * kKeyTile;
  const int half = shape.head_dim / 2;
  const int rotated = shape.rotary_dim / 2;
  float* to = memory;
  for (int i = 0; i < queries.num_queries; ++i, to += call.key_dim) {
    const int row = item.first_row + i / call.group;
    const int head = item.kv_head * call.group + i % call.group;
    const float* from = call.q + (int64_t{row} * shape.num_heads + head) * shape.head_dim;
    const VisibleKeys keys = visible_keys(shape, call.batch, row);
    queries.first_key[i] = keys.first;
    queries.last_key[i] = keys.last;
    std::copy(from, from + shape.head_dim, to);
    if (!shape.is_global()) continue;
    std::fill(to, to + rotated, 0.0f);
    std::fill(to + half, to + half + rotated, 0.0f);
    std::copy(from, from + rotated, to + shape.head_dim);
    std::copy(from + half, from + half + rotated, to + shape.head_dim + rotated);
  }
  return queries;
}

// Leaves the softmax states over the keys of one span in queries.states.
void Attention::run_span(const Call& call, const Item& item, int32_t span,
                         const Queries& queries) const {
  clear_states(queries.states, queries.num_queries, call.value_dim);
  const int32_t begin = std::max(item.first_key, span * kSpanKeys);
  const int32_t end = std::min(item.last_key + 1, (span + 1) * kSpanKeys);
  AttentionTile tile;
  tile.queries = queries.vectors;
  tile.num_queries = queries.num_queries;
  tile.key_dim = call.key_dim;
  tile.value_dim = call.value_dim;
  tile.key_stride = call.layout.entry_stride();
  tile.value_stride = call.layout.entry_stride();
  tile.first_key = queries.first_key;
  tile.last_key = queries.last_key;
  tile.scores = queries.scores;
  tile.state = queries.states;
  const int block_size = call.layout.block_size();
  for (int32_t position = begin / block_size * block_size; position < end;) {
    const int32_t tile_end = key_tile_end(position, block_size);
    if (tile_end > begin) {
      tile.position = position;
      tile.num_keys = std::min(tile_end, end) - position;
      tile.keys = call.layout.entry(item.segment, item.kv_head, position);
      tile.values = tile.keys + call.layout.value_offset();
      context_.kernels.attention_tile(tile);
    }
    position = tile_end;
  }
}

void Attention::run_item(const Call& call, const Item& item, Scratch& scratch) {
  const int64_t num_queries = int64_t{item.num_rows} * call.group;
  const int64_t states_size = num_queries * state_size(call.value_dim);
  float* memory = scratch.reserve(num_queries * (call.key_dim + kKeyTile) + 2 * states_size);
  const Queries queries = gather(call, item, memory);
  float* merged = queries.states + states_size;
  clear_states(merged, queries.num_queries, call.value_dim);
  for (int32_t s = item.first_key / kSpanKeys; s <= item.last_key / kSpanKeys; ++s) {
    run_span(call, item, s, queries);
    for (int64_t i = 0; i < num_queries; ++i) {
      const int64_t offset = i * state_size(call.value_dim);
      context_.kernels.merge_softmax(queries.states + offset, call.value_dim, merged + offset);
    }
  }
  write_item(call, item, merged);
}

void Attention::write_item(const Call& call, const Item& item, const float* states) const {
  for (int i = 0; i < item.num_rows * call.group; ++i) {
    const int64_t row = item.first_row + i / call.group;
    const int64_t head = item.kv_head * call.group + i % call.group;
    const float* state = states + i * state_size(call.value_dim);
    context_.kernels.divide_row(state, state[call.value_dim + 1], call.value_dim,
                                call.out + (row * call.shape.num_heads + head) * call.value_dim);
  }
}

// Few queries, many keys: the spans of an item go to different threads.
void Attention::run_split(const Call& call) {
  const int64_t item_size = kMaxItemQueries * state_size(call.value_dim);
  const Item& last = items_.back();
  const int64_t num_partials =
      last.first_partial + last.last_key / kSpanKeys - last.first_key / kSpanKeys + 1;
  float* partials = partials_.reserve(num_partials * item_size);
  context_.pool.run([&](int thread_idx) {
    CostShare share(num_partials, thread_idx, context_.pool.num_threads());
    for (const Item& item : items_) {
      const int32_t first_span = item.first_key / kSpanKeys;
      const int32_t num_spans = item.last_key / kSpanKeys - first_span + 1;
      const IndexRange spans = share.take(num_spans, 1);
      if (spans.empty()) continue;
      const int64_t num_queries = int64_t{item.num_rows} * call.group;
      float* memory =
          states_[static_cast<size_t>(thread_idx)].reserve(num_queries * (call.key_dim + kKeyTile));
      Queries queries = gather(call, item, memory);
      for (int64_t s = spans.begin; s < spans.end; ++s) {
        queries.states = partials + (item.first_partial + s) * item_size;
        run_span(call, item, first_span + static_cast<int32_t>(s), queries);
      }
    }
  });
  for (const Item& item : items_) {
    const int32_t num_spans = item.last_key / kSpanKeys - item.first_key / kSpanKeys + 1;
    float* merged = partials + item.first_partial * item_size;
    for (int64_t s = 1; s < num_spans; ++s) {
      for (int i = 0; i < item.num_rows * call.group; ++i) {
        const int64_t offset = i * state_size(call.value_dim);
        context_.kernels.merge_softmax(merged + s * item_size + offset, call.value_dim,
                                       merged + offset);
      }
    }
    write_item(call, item, merged);
  }
}

void Attention::run(const AttentionShape& shape, const TensorView& q, const BatchView& batch,
                    const KvCacheView& cache, const TensorView& out) {
  const int group = shape.num_heads / shape.num_kv_heads;
  BERYL_CHECK(group * shape.num_kv_heads == shape.num_heads && group <= kMaxItemQueries);
  const int key_dim = shape.is_global() ? shape.cached_dim() : shape.head_dim;
  const Call call = {shape,   batch,         CacheLayout(shape, batch, cache),
                     q.f32(), out.f32(),     group,
                     key_dim, shape.head_dim};
  plan(call);
  if (items_.empty()) return;
  const int num_threads = context_.pool.num_threads();
  const Item& last = items_.back();
  const int64_t num_partials =
      last.first_partial + last.last_key / kSpanKeys - last.first_key / kSpanKeys + 1;
  const bool is_small =
      num_partials * kMaxItemQueries * state_size(call.value_dim) <= kMaxPartialFloats;
  const auto num_items = static_cast<int64_t>(items_.size());
  if (num_items < kItemsPerThread * num_threads && num_partials > num_items && is_small) {
    return run_split(call);
  }
  const auto cost = [](const Item& item) {
    return int64_t{item.num_rows} * (item.last_key - item.first_key + 1);
  };
  int64_t total = 0;
  for (const Item& item : items_) total += cost(item);
  context_.pool.run([&](int thread_idx) {
    CostShare share(total, thread_idx, num_threads);
    for (const Item& item : items_) {
      if (share.take(1, cost(item)).empty()) continue;
      run_item(call, item, states_[static_cast<size_t>(thread_idx)]);
    }
  });
}

}  // namespace beryl::kernels::cpu
