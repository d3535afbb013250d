#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "bench/kernels/device_tensors.h"
#include "bench/kernels/kernel_case.h"

namespace beryl::bench {
namespace {

using kernels::AttentionShape;
using kernels::DType;
using kernels::TensorView;

constexpr int kBlockSize = 16;

AttentionShape published_shape(bool is_global) {
  return is_global ? AttentionShape{16, 2, 512, 128, 0, 1e-6f, nullptr}
                   : AttentionShape{16, 8, 256, 256, 1024, 1e-6f, nullptr};
}

struct Load {
  int num_requests;
  int rows;     // of each request, its last positions
  int context;  // positions of each request, the rows included
};

// Requests of one length whose blocks follow each other.
kernels::BatchView make_batch(DeviceTensors& tensors, const AttentionShape& shape,
                              const Load& load) {
  std::vector<int32_t> positions, starts = {0}, segments, block_ids, offsets = {0}, first_block;
  const int begin = load.context - load.rows;
  const int first = shape.is_global() ? 0 : std::max(0, begin - shape.window + 1) / kBlockSize;
  for (int r = 0; r < load.num_requests; ++r) {
    for (int p = begin; p < load.context; ++p) {
      positions.push_back(p);
      segments.push_back(r);
    }
    starts.push_back(static_cast<int32_t>(positions.size()));
    first_block.push_back(first);
    for (int b = first; b * kBlockSize < load.context; ++b) {
      block_ids.push_back(static_cast<int32_t>(block_ids.size()));
    }
    offsets.push_back(static_cast<int32_t>(block_ids.size()));
  }
  kernels::BatchView batch;
  batch.num_rows = static_cast<int>(positions.size());
  batch.num_segments = load.num_requests;
  batch.positions = tensors.ints(positions);
  batch.query_start_loc = tensors.ints(starts);
  batch.row_segments = tensors.ints(segments);
  batch.max_segment_rows = load.rows;
  batch.max_position = load.context - 1;
  const kernels::BlockTableView table = {tensors.ints(block_ids), tensors.ints(offsets),
                                         tensors.ints(first_block), kBlockSize};
  batch.global_blocks = table;
  batch.sliding_blocks = table;
  return batch;
}

void visit_load(const KernelOps& device, bool is_global, const Load& load,
                const CaseVisitor& visit) {
  DeviceTensors tensors(device.ops);
  const AttentionShape shape = published_shape(is_global);
  const kernels::BatchView batch = make_batch(tensors, shape, load);
  const int begin = load.context - load.rows;
  const int first_key = is_global ? 0 : std::max(0, begin - shape.window + 1);
  const int64_t num_blocks =
      int64_t{load.num_requests} *
      ((load.context + kBlockSize - 1) / kBlockSize - first_key / kBlockSize);
  const kernels::KvCacheView cache = {
      tensors.random({num_blocks, shape.num_kv_heads, kBlockSize, shape.cached_dim()}, 1)};
  const int64_t rows = batch.num_rows;
  const TensorView q = tensors.random({rows, shape.num_heads, shape.head_dim}, 0.2f);
  const TensorView out =
      tensors.zeros(DType::kBFloat16, {rows, int64_t{shape.num_heads} * shape.head_dim});
  double pairs = 0;  // of queries and keys of one head
  for (int p = begin; p < load.context; ++p) {
    pairs += is_global ? p + 1 : std::min(p + 1, shape.window);
  }
  pairs *= load.num_requests;
  KernelCase one;
  one.name =
      fmt::format("attention/{}/requests:{}/rows:{}/context:{}", is_global ? "global" : "sliding",
                  load.num_requests, load.rows, load.context);
  one.bytes = 2.0 * load.num_requests * (load.context - first_key) * shape.num_kv_heads *
                  shape.cached_dim() +
              4.0 * static_cast<double>(q.num_elements());
  one.flops = 4.0 * pairs * shape.num_heads * shape.head_dim;
  one.run = [&](int) { device.ops.attention(shape, q, batch, cache, out); };
  const bool is_small = pairs < 2e7;  // the plain kernel takes its time
  if (is_small) {
    one.error = [&] {
      const TensorView other = tensors.zeros(DType::kBFloat16, {out.shape[0], out.shape[1]});
      device.ops.download(nullptr, nullptr, 0);
      device.plain.attention(shape, q, batch, cache, other);
      device.plain.download(nullptr, nullptr, 0);
      return relative_difference(tensors.floats(out), tensors.floats(other));
    };
  }
  visit(one);
}

}  // namespace

void visit_attention_cases(const KernelOps& device, const CaseVisitor& visit) {
  for (const bool is_global : {false, true}) {
    for (const int requests : {1, 16, 64}) {
      for (const int context : {1024, 8192, 32768}) {
        visit_load(device, is_global, {requests, 1, context}, visit);
      }
    }
    visit_load(device, is_global, {1, 1, 262144}, visit);
    for (const int rows : {512, 2048, 8192}) {
      visit_load(device, is_global, {1, rows, rows}, visit);
    }
    visit_load(device, is_global, {1, 2048, 32768}, visit);
  }
}

}  // namespace beryl::bench
