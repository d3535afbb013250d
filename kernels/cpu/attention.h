// Attention over the paged cache: which keys meet which queries, in what order, on which thread.
//
// Order of a row's softmax: keys are taken in tiles of absolute positions (key_tile_end), tiles are
// joined into spans of kSpanKeys positions, spans are merged from the first to the last. All of it
// depends on the row's position and window only.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/context.h"
#include "kernels/ops.h"

namespace beryl::kernels::cpu {

constexpr int32_t kSpanKeys = 1024;

class Attention {
 public:
  explicit Attention(const Context& context)
      : context_(context), states_(static_cast<size_t>(context.pool.num_threads())) {}

  void run(const AttentionShape& shape, const TensorView& q, const BatchView& batch,
           const KvCacheView& cache, const TensorView& out);

 private:
  // Some rows of a segment, all query heads of one KV head.
  struct Item {
    int segment;
    int first_row;
    int num_rows;
    int kv_head;
    int32_t first_key;  // of all rows together
    int32_t last_key;
    int64_t first_partial;  // index of its first span among all partial results
  };
  struct Call;     // arguments of run()
  struct Queries;  // memory of one item

  void plan(const Call& call);
  void run_item(const Call& call, const Item& item, Scratch& scratch);
  void run_split(const Call& call);
  void write_item(const Call& call, const Item& item, const float* states) const;
  Queries gather(const Call& call, const Item& item, float* memory) const;
  void run_span(const Call& call, const Item& item, int32_t span, const Queries& queries) const;

  Context context_;
  std::vector<Item> items_;
  std::vector<Scratch> states_;  // [num_threads]
  Scratch partials_;
};

}  // namespace beryl::kernels::cpu
