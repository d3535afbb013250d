// attention_inputs and attention against the CPU back end on the same batches, caches and block
// tables. For attention both get the same bf16 queries and cache.
#include <algorithm>
#include <numeric>

#include "tests/kernels/cuda/device_test.h"

namespace beryl::kernels {
namespace {

struct Segment {
  int32_t begin;  // position of its first row
  int32_t count;
};

// A step of several requests: positions, block tables and a cache whose unused slots are NaN.
struct Batch {
  std::vector<int32_t> positions, query_start_loc = {0}, visible_end, row_segments;
  std::vector<int32_t> block_ids, offsets = {0}, first_block;
  int block_size = 16;
  int num_blocks = 0;
  int max_segment_rows = 0;
  int32_t max_position = 0;

  int num_rows() const { return static_cast<int>(positions.size()); }

  template <typename Array>
  static BatchView view(const Batch& b, const Array& at) {
    BatchView view;
    view.num_rows = b.num_rows();
    view.num_segments = static_cast<int>(b.first_block.size());
    view.positions = at(b.positions);
    view.query_start_loc = at(b.query_start_loc);
    view.visible_end = at(b.visible_end);
    view.row_segments = at(b.row_segments);
    view.max_segment_rows = b.max_segment_rows;
    view.max_position = b.max_position;
    const BlockTableView table = {at(b.block_ids), at(b.offsets), at(b.first_block), b.block_size};
    view.global_blocks = table;
    view.sliding_blocks = table;
    return view;
  }
  BatchView host_view() const {
    return view(*this, [](const std::vector<int32_t>& v) { return v.data(); });
  }
};

Batch make_batch(const std::vector<Segment>& segments, int window, int block_size, Random& random) {
  Batch batch;
  batch.block_size = block_size;
  for (const Segment& segment : segments) {
    const auto index = static_cast<int32_t>(batch.first_block.size());
    for (int32_t p = segment.begin; p < segment.begin + segment.count; ++p) {
      batch.positions.push_back(p);
      batch.visible_end.push_back(p);
      batch.row_segments.push_back(index);
    }
    batch.query_start_loc.push_back(batch.num_rows());
    const int32_t end = segment.begin + segment.count;
    const int32_t first = window == 0 ? 0 : std::max(0, segment.begin - window + 1) / block_size;
    batch.first_block.push_back(first);
    for (int32_t b = first; b * block_size < end; ++b) {
      batch.block_ids.push_back(batch.num_blocks++);
    }
    batch.offsets.push_back(static_cast<int32_t>(batch.block_ids.size()));
    batch.max_segment_rows = std::max(batch.max_segment_rows, segment.count);
    batch.max_position = std::max(batch.max_position, end - 1);
  }
  batch.num_blocks += 3;  // foreign ones
  std::vector<int32_t> order(static_cast<size_t>(batch.num_blocks));
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1], order[static_cast<size_t>(random.below(static_cast<int>(i)))]);
  }
  for (int32_t& id : batch.block_ids) id = order[static_cast<size_t>(id)];
  return batch;
}

// Rows [begin, end) see each other: an image.
void add_span(Batch& batch, int begin, int end) {
  for (int row = begin; row < end; ++row) {
    batch.visible_end[static_cast<size_t>(row)] = batch.positions[static_cast<size_t>(end - 1)];
  }
}

AttentionShape published(bool is_global, int window = 1024) {
  return is_global ? AttentionShape{16, 2, 512, 128, 0, 1e-6f, nullptr}
                   : AttentionShape{16, 8, 256, 256, window, 1e-6f, nullptr};
}

int64_t block_numbers(const AttentionShape& shape, int block_size) {
  return int64_t{shape.num_kv_heads} * block_size * shape.cached_dim();
}

class CudaAttentionTest : public CudaTest {
 protected:
  // The device's copies of a batch's arrays.
  class DeviceBatch {
   public:
    DeviceBatch(Ops& ops, const Batch& batch) {
      view_ = Batch::view(batch, [&](const std::vector<int32_t>& v) {
        arrays_.push_back(std::make_unique<DeviceArray<int32_t>>(ops, v));
        return arrays_.back()->data();
      });
    }
    const BatchView& view() const { return view_; }

   private:
    std::vector<std::unique_ptr<DeviceArray<int32_t>>> arrays_;
    BatchView view_;
  };

  // Keys and values of everything that some row of the batch may see; NaN elsewhere.
  static FloatMatrix make_cache(const AttentionShape& shape, const Batch& batch, Random& random) {
    FloatMatrix cache(batch.num_blocks, block_numbers(shape, batch.block_size));
    std::fill(cache.data.begin(), cache.data.end(), NAN);
    const int64_t stride = shape.is_global() ? shape.cached_dim() : shape.head_dim;
    for (size_t s = 0; s < batch.first_block.size(); ++s) {
      const int32_t last = batch.positions[static_cast<size_t>(batch.query_start_loc[s + 1] - 1)];
      for (int32_t i = batch.offsets[s]; i < batch.offsets[s + 1]; ++i) {
        const int32_t begin = (batch.first_block[s] + i - batch.offsets[s]) * batch.block_size;
        const int64_t parts = shape.is_global() ? 1 : 2;
        for (int64_t part = 0; part < shape.num_kv_heads * parts; ++part) {
          float* from =
              cache.row(batch.block_ids[static_cast<size_t>(i)]) + part * batch.block_size * stride;
          const int32_t count = std::min(batch.block_size, last - begin + 1);
          for (int64_t n = 0; n < count * stride; ++n) from[n] = random.normal();
        }
      }
    }
    return rounded_to_bf16(cache);
  }

  struct Problem {
    AttentionShape shape;
    Batch batch;
    FloatMatrix cache, q;
  };
  static Problem make_problem(const AttentionShape& shape, Batch batch, Random& random) {
    Problem problem{shape, std::move(batch), {}, {}};
    problem.cache = make_cache(shape, problem.batch, random);
    problem.q = random.floats(problem.batch.num_rows(), int64_t{shape.num_heads} * shape.head_dim);
    // Scores of a few units.
    const float scale = 2.0f / std::sqrt(static_cast<float>(shape.head_dim));
    for (float& value : problem.q.data) value *= scale;
    problem.q = rounded_to_bf16(problem.q);
    return problem;
  }

  FloatMatrix on_cpu(Problem& problem) {
    FloatMatrix out(problem.q.num_rows, problem.q.num_cols);
    cpu().attention(problem.shape, problem.q.view(), problem.batch.host_view(),
                    {problem.cache.view()}, out.view());
    return out;
  }
  static FloatMatrix on(Ops& device, const Problem& problem) {
    const DeviceBatch batch(device, problem.batch);
    const DeviceTensor cache(device, problem.cache, DType::kBFloat16);
    const DeviceTensor q(device, problem.q, DType::kBFloat16);
    const DeviceTensor out(device, DType::kBFloat16, problem.q.num_rows, problem.q.num_cols);
    device.attention(problem.shape, q.view(), batch.view(), {cache.view()}, out.view());
    return out.floats();
  }

  void expect_cpu(const AttentionShape& shape, const Batch& batch, Random& random,
                  const char* what) {
    Problem problem = make_problem(shape, batch, random);
    const FloatMatrix expected = on_cpu(problem);
    const auto older = cuda::make_cuda_ops({.without_cublas = true, .without_wgmma = true});
    for (Ops* device : {&ops(), older.get()}) {
      EXPECT_LT(relative_error(on(*device, problem), expected), kInnerTolerance)
          << what << (shape.is_global() ? ", global" : ", sliding") << ", block size "
          << batch.block_size << (device == older.get() ? ", without wgmma" : "");
    }
  }
};

TEST_F(CudaAttentionTest, DecodeRowsAgree) {
  Random random(1);
  for (const bool is_global : {false, true}) {
    const AttentionShape shape = published(is_global, kIsEmulated ? 100 : 1024);
    for (const int block_size : {16, 48}) {
      const auto check = [&](const std::vector<Segment>& segments, const char* what) {
        expect_cpu(shape, make_batch(segments, shape.window, block_size, random), random, what);
      };
      check({{0, 1}}, "first token");
      check({{31, 1}, {32, 1}, {33, 1}, {250, 1}}, "borders of key tiles");
      check({{kIsEmulated ? 700 : 3000, 1}}, "one long request: splits");
      check({{5, 3}, {0, 0}, {300, 16}, {64, 1}}, "short segments, one empty");
    }
  }
}

TEST_F(CudaAttentionTest, PrefillAgrees) {
  Random random(2);
  for (const bool is_global : {false, true}) {
    const AttentionShape shape = published(is_global, kIsEmulated ? 40 : 1024);
    const int longest = kIsEmulated ? 70 : 1300;
    const auto check = [&](const std::vector<Segment>& segments, const char* what) {
      expect_cpu(shape, make_batch(segments, shape.window, 16, random), random, what);
    };
    check({{0, 65}}, "a prompt");
    check({{0, longest}}, "a prompt longer than the window");
    check({{200, 33}}, "a later chunk");
    check({{kIsEmulated ? 500 : 3000, 20}}, "a chunk whose keys are divided");
    check({{90, 1}, {0, 20}, {17, 40}, {7, 2}, {0, 0}, {33, 1}}, "a mixed batch");
  }
}

TEST_F(CudaAttentionTest, ImageSpansAreSeenWhole) {
  Random random(3);
  const AttentionShape shape = published(false, kIsEmulated ? 30 : 100);
  Batch batch = make_batch({{50, 90}, {10, 1}}, shape.window, 16, random);
  add_span(batch, 20, 63);
  add_span(batch, 63, 70);
  expect_cpu(shape, batch, random, "spans");
  // The control: without its span the result is another.
  Problem problem = make_problem(shape, batch, random);
  const FloatMatrix expected = on_cpu(problem);
  problem.batch.visible_end = problem.batch.positions;
  EXPECT_GT(relative_error(on(ops(), problem), expected), 10 * kInnerTolerance);
}

TEST_F(CudaAttentionTest, OtherHeadSizesAgree) {
  Random random(4);
  for (const AttentionShape& shape :
       {AttentionShape{4, 2, 32, 32, 16, 0, nullptr}, AttentionShape{4, 1, 64, 16, 0, 0, nullptr},
        AttentionShape{4, 2, 64, 64, 128, 0, nullptr},
        AttentionShape{2, 2, 128, 32, 0, 0, nullptr}}) {
    expect_cpu(shape, make_batch({{0, 40}, {77, 1}, {30, 5}}, shape.window, 16, random), random,
               "small model");
  }
}

// At sizes a CPU takes long for: the plain kernel on the same device.
TEST_F(CudaAttentionTest, LongContextsAgreeWithThePlainKernel) {
  Random random(5);
  const auto plain = plain_ops();
  for (const bool is_global : {false, true}) {
    const AttentionShape shape = published(is_global, kIsEmulated ? 64 : 1024);
    const int32_t far = kIsEmulated ? 150 : 20000;
    const Problem problem = make_problem(
        shape, make_batch({{far, 1}, {far - 100, 40}, {far / 2, 1}}, shape.window, 16, random),
        random);
    EXPECT_LT(relative_error(on(ops(), problem), on(*plain, problem)), kInnerTolerance);
  }
}

struct InputsResult {
  FloatMatrix q, cache;
};

class CudaAttentionInputsTest : public CudaAttentionTest {
 protected:
  struct Layer {
    AttentionShape shape;
    std::vector<float> inv_freq;
    WeightMatrix weights[5];  // q, k, v projections, q, k norms
  };
  static Layer make_layer(AttentionShape shape, int64_t hidden, Random& random) {
    Layer layer;
    for (int i = 0; i < shape.rotary_dim / 2; ++i) {
      layer.inv_freq.push_back(
          std::pow(1e4f, -2.0f * static_cast<float>(i) / static_cast<float>(shape.head_dim)));
    }
    shape.rms_norm_eps = 1e-6f;
    layer.shape = shape;
    const int64_t d = shape.head_dim;
    layer.weights[0] = random.weights(shape.num_heads * d, hidden, 0.1f);
    layer.weights[1] = random.weights(shape.num_kv_heads * d, hidden, 0.1f);
    layer.weights[2] = random.weights(shape.num_kv_heads * d, hidden, 0.1f);
    layer.weights[3] = random.gains(d);
    layer.weights[4] = random.gains(d);
    return layer;
  }
  static AttentionWeights weights_of(const AttentionShape& shape, const TensorView (&v)[5]) {
    AttentionWeights weights;
    weights.q_proj = v[0];
    weights.k_proj = v[1];
    if (!shape.is_global()) weights.v_proj = v[2];
    weights.q_norm = {v[3].data, v[3].dtype, {v[3].num_elements()}};
    weights.k_norm = {v[4].data, v[4].dtype, {v[4].num_elements()}};
    return weights;
  }

  InputsResult on_cpu(Layer& layer, const FloatMatrix& x, const Batch& batch) {
    AttentionShape shape = layer.shape;
    shape.inv_freq = layer.inv_freq.data();
    InputsResult result = {FloatMatrix(x.num_rows, int64_t{shape.num_heads} * shape.head_dim),
                           FloatMatrix(batch.num_blocks, block_numbers(shape, batch.block_size))};
    const TensorView views[5] = {layer.weights[0].view(), layer.weights[1].view(),
                                 layer.weights[2].view(), layer.weights[3].view(),
                                 layer.weights[4].view()};
    FloatMatrix copy = x;
    cpu().attention_inputs(shape, weights_of(shape, views), copy.view(), batch.host_view(),
                           {result.cache.view()}, result.q.view());
    return result;
  }
  InputsResult on_device_of(Layer& layer, const FloatMatrix& x, const Batch& batch) {
    AttentionShape shape = layer.shape;
    shape.inv_freq = layer.inv_freq.data();
    const DeviceTensor weights[5] = {on_device(layer.weights[0]), on_device(layer.weights[1]),
                                     on_device(layer.weights[2]), on_device(layer.weights[3]),
                                     on_device(layer.weights[4])};
    const TensorView views[5] = {weights[0].view(), weights[1].view(), weights[2].view(),
                                 weights[3].view(), weights[4].view()};
    const DeviceBatch device_batch(ops(), batch);
    const DeviceTensor q =
        empty(DType::kBFloat16, x.num_rows, int64_t{shape.num_heads} * shape.head_dim);
    const DeviceTensor cache =
        empty(DType::kBFloat16, batch.num_blocks, block_numbers(shape, batch.block_size));
    ops().attention_inputs(shape, weights_of(shape, views),
                           DeviceTensor(ops(), x, DType::kBFloat16).view(), device_batch.view(),
                           {cache.view()}, q.view());
    return {q.floats(), cache.floats()};
  }
};

TEST_F(CudaAttentionInputsTest, QueriesAndCacheAgree) {
  Random random(6);
  const int64_t hidden = kIsEmulated ? 72 : 2816;
  std::vector<AttentionShape> shapes = {published(false, 100),
                                        published(true),
                                        {4, 2, 32, 32, 16, 0, nullptr},
                                        {4, 1, 64, 16, 0, 0, nullptr}};
  for (const AttentionShape& shape : shapes) {
    Layer layer = make_layer(shape, hidden, random);
    for (const std::vector<Segment>& segments :
         {std::vector<Segment>{{0, 1}}, {{5, 3}, {0, 0}, {200'000, 1}}, {{0, 40}, {17, 9}}}) {
      // Global tables would need every block down from 200,000.
      std::vector<Segment> near = segments;
      if (shape.is_global()) {
        for (Segment& segment : near) segment.begin = std::min(segment.begin, 3000);
      }
      const Batch batch = make_batch(near, shape.window, 16, random);
      const FloatMatrix x = rounded_to_bf16(random.floats(batch.num_rows(), hidden));
      const InputsResult expected = on_cpu(layer, x, batch);
      const InputsResult actual = on_device_of(layer, x, batch);
      EXPECT_LT(relative_error(actual.q, expected.q), kBf16Tolerance) << shape.head_dim;
      EXPECT_LT(relative_error(actual.cache, expected.cache), kBf16Tolerance) << shape.head_dim;
    }
  }
}

// The control: positions one too large are seen.
TEST_F(CudaAttentionInputsTest, ComparisonSeesAWrongPosition) {
  Random random(7);
  Layer layer = make_layer(published(false, 100), 72, random);
  const Batch batch = make_batch({{5, 3}}, 100, 16, random);
  const FloatMatrix x = rounded_to_bf16(random.floats(3, 72));
  const InputsResult expected = on_cpu(layer, x, batch);
  Batch shifted = batch;
  for (int32_t& position : shifted.positions) ++position;
  EXPECT_GT(relative_error(on_device_of(layer, x, shifted).q, expected.q), 10 * kBf16Tolerance);
}

}  // namespace
}  // namespace beryl::kernels
