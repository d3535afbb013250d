#include "kernels/cpu/patch_attention.h"

#include <algorithm>
#include <limits>

#include "kernels/cpu/rope_angles.h"

namespace beryl::kernels::cpu {
namespace {

constexpr int64_t kParallelRows = 4;
constexpr int kItemQueries = 32;  // queries of one head that share each tile of keys

// Items of a picture: heads times runs of queries; item i belongs to head i / query_runs().
int64_t query_runs(int64_t num_patches) {
  return (num_patches + kItemQueries - 1) / kItemQueries;
}

}  // namespace

struct PatchAttention::Call {
  const PatchAttentionShape& shape;
  const float* q;  // [P, width]
  const float* k;
  const float* v;
  float* out;
  int64_t width;  // num_heads * head_dim
};

void PatchAttention::finish_row(const PatchAttentionShape& shape, const AttentionWeights& weights,
                                const PatchQkv& out, int64_t row,
                                const float* const (&angles)[2]) const {
  const KernelTable& kernels = context_.kernels;
  const int head_dim = shape.head_dim;
  const int quarter = head_dim / 4;
  const float eps = shape.rms_norm_eps;
  const int64_t begin = row * shape.num_heads * head_dim;
  for (int h = 0; h < shape.num_heads; ++h) {
    float* q = out.q.f32() + begin + h * head_dim;
    float* k = out.k.f32() + begin + h * head_dim;
    float* v = out.v.f32() + begin + h * head_dim;
    kernels.norm_row(q, weights.q_norm.bf16(), head_dim, eps, q);
    kernels.norm_row(k, weights.k_norm.bf16(), head_dim, eps, k);
    kernels.norm_row(v, nullptr, head_dim, eps, v);
    for (int axis = 0; axis < 2; ++axis) {
      const float* cos = angles[axis];
      const int first = axis * 2 * quarter;
      for (float* head : {q + first, k + first}) {
        kernels.rotate_pairs(cos, cos + quarter, quarter, head, head + quarter);
      }
    }
  }
}

void PatchAttention::compute_inputs(const PatchAttentionShape& shape,
                                    const AttentionWeights& weights, const PackedRows& x,
                                    const PatchBatch& batch, const PatchQkv& out) {
  const int64_t width = int64_t{shape.num_heads} * shape.head_dim;
  BERYL_CHECK(x.num_rows() == batch.num_patches() && shape.head_dim % 4 == 0);
  const LinearJob jobs[] = {{weights.q_proj.bf16(), width, out.q.f32()},
                            {weights.k_proj.bf16(), width, out.k.f32()},
                            {weights.v_proj.bf16(), width, out.v.f32()}};
  run_linears(context_, x, weights.q_proj.shape[1], jobs);
  int longest = 0;
  for (int i = 0; i < batch.num_images; ++i) {
    longest = std::max({longest, batch.grids[i].width, batch.grids[i].height});
  }
  const int quarter = shape.head_dim / 4;
  const int64_t entry = int64_t{2} * quarter;
  float* angles = angles_.reserve(longest * entry);
  for (int32_t position = 0; position < longest; ++position) {
    float* cos = angles + position * entry;
    rope_angles(shape.inv_freq, quarter, position, cos, cos + quarter);
  }
  int64_t first = 0;
  for (int i = 0; i < batch.num_images; ++i) {
    const PatchGrid& grid = batch.grids[i];
    context_.pool.parallel_for(grid.num_patches(), kParallelRows, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        finish_row(shape, weights, out, first + p,
                   {angles + p % grid.width * entry, angles + p / grid.width * entry});
      }
    });
    first += grid.num_patches();
  }
}

// Some queries of one head against all keys of their picture.
void PatchAttention::run_item(const Call& call, int64_t first_patch, int64_t num_patches,
                              int64_t item, Scratch& scratch) const {
  const int head_dim = call.shape.head_dim;
  const int64_t runs = query_runs(num_patches);
  const int64_t head = item / runs * head_dim;
  const int64_t begin = item % runs * kItemQueries;
  const auto num_queries = static_cast<int>(std::min<int64_t>(kItemQueries, num_patches - begin));
  const int64_t state_stride = state_size(head_dim);
  float* queries = scratch.reserve(kItemQueries * (head_dim + kKeyTile + state_stride));
  float* scores = queries + kItemQueries * head_dim;
  float* states = scores + kItemQueries * kKeyTile;
  int32_t first_key[kItemQueries] = {};
  int32_t last_key[kItemQueries];
  std::fill(last_key, last_key + num_queries, static_cast<int32_t>(num_patches) - 1);
  std::fill(states, states + num_queries * state_stride, 0.0f);
  for (int i = 0; i < num_queries; ++i) {
    const float* from = call.q + (first_patch + begin + i) * call.width + head;
    std::copy(from, from + head_dim, queries + i * head_dim);
    states[i * state_stride + head_dim] = -std::numeric_limits<float>::infinity();
  }
  AttentionTile tile;
  tile.queries = queries;
  tile.num_queries = num_queries;
  tile.key_dim = head_dim;
  tile.value_dim = head_dim;
  tile.key_stride = call.width;
  tile.value_stride = call.width;
  tile.first_key = first_key;
  tile.last_key = last_key;
  tile.scores = scores;
  tile.state = states;
  for (int64_t key = 0; key < num_patches; key += kKeyTile) {
    tile.keys = call.k + (first_patch + key) * call.width + head;
    tile.values = call.v + (first_patch + key) * call.width + head;
    tile.num_keys = static_cast<int>(std::min<int64_t>(kKeyTile, num_patches - key));
    tile.position = static_cast<int32_t>(key);
    context_.kernels.attention_tile(tile);
  }
  for (int i = 0; i < num_queries; ++i) {
    const float* state = states + i * state_stride;
    context_.kernels.divide_row(state, state[head_dim + 1], head_dim,
                                call.out + (first_patch + begin + i) * call.width + head);
  }
}

void PatchAttention::run(const PatchAttentionShape& shape, const PatchQkv& qkv,
                         const PatchBatch& batch, const TensorView& out) {
  const Call call = {shape,       qkv.q.f32(), qkv.k.f32(),
                     qkv.v.f32(), out.f32(),   int64_t{shape.num_heads} * shape.head_dim};
  BERYL_CHECK(out.num_elements() == batch.num_patches() * call.width);
  const auto num_items = [&](const PatchGrid& grid) {
    return query_runs(grid.num_patches()) * shape.num_heads;
  };
  int64_t total = 0;
  for (int i = 0; i < batch.num_images; ++i) {
    total += num_items(batch.grids[i]) * batch.grids[i].num_patches();
  }
  context_.pool.run([&](int thread_idx) {
    CostShare share(total, thread_idx, context_.pool.num_threads());
    int64_t first_patch = 0;
    for (int i = 0; i < batch.num_images; ++i) {
      const int64_t num_patches = batch.grids[i].num_patches();
      const IndexRange items = share.take(num_items(batch.grids[i]), num_patches);
      for (int64_t item = items.begin; item < items.end; ++item) {
        run_item(call, first_patch, num_patches, item, scratch_[static_cast<size_t>(thread_idx)]);
      }
      first_patch += num_patches;
    }
  });
}

}  // namespace beryl::kernels::cpu
