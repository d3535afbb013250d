// attention_inputs and attention together: a request is fed in chunks through a paged cache and
// must come out as the dense reference computes it, bit for bit the same however it was cut.
#include <numeric>

#include "tests/kernels/test_util.h"

namespace beryl::kernels {
namespace {

constexpr double kTolerance = 2e-5;  // of the largest output; scores are sums of large products
constexpr int kHidden = 72;

struct Layer {
  AttentionShape shape;
  std::vector<float> inv_freq;
  WeightMatrix q_proj, k_proj, v_proj, q_norm, k_norm;

  AttentionShape view() {
    AttentionShape copy = shape;
    copy.inv_freq = inv_freq.data();
    return copy;
  }
  AttentionWeights weights() {
    AttentionWeights w;
    w.q_proj = q_proj.view();
    w.k_proj = k_proj.view();
    if (!shape.is_global()) w.v_proj = v_proj.view();
    w.q_norm = q_norm.vector_view();
    w.k_norm = k_norm.vector_view();
    return w;
  }
  reference::AttentionLayer exact() const {
    reference::AttentionLayer layer;
    layer.num_heads = shape.num_heads;
    layer.num_kv_heads = shape.num_kv_heads;
    layer.head_dim = shape.head_dim;
    layer.rotary_dim = shape.rotary_dim;
    layer.window = shape.window;
    layer.eps = shape.rms_norm_eps;
    layer.inv_freq = inv_freq;
    layer.q_proj = q_proj.exact();
    layer.k_proj = k_proj.exact();
    layer.v_proj = v_proj.exact();
    layer.q_norm = q_norm.exact().data;
    layer.k_norm = k_norm.exact().data;
    return layer;
  }
};

Layer make_layer(Random& random, AttentionShape shape) {
  shape.rms_norm_eps = 1e-6f;
  Layer layer;
  layer.shape = shape;
  for (int i = 0; i < shape.rotary_dim / 2; ++i) {
    layer.inv_freq.push_back(
        std::pow(1e4f, -2.0f * static_cast<float>(i) / static_cast<float>(shape.head_dim)));
  }
  const int64_t d = shape.head_dim;
  layer.q_proj = random.weights(shape.num_heads * d, kHidden, 0.1f);
  layer.k_proj = random.weights(shape.num_kv_heads * d, kHidden, 0.1f);
  layer.v_proj = random.weights(shape.num_kv_heads * d, kHidden, 0.1f);
  layer.q_norm = random.gains(d);
  layer.k_norm = random.gains(d);
  // Scores of a few units, as in a trained model: the norms alone would give sqrt(head_dim).
  for (uint16_t& gain : layer.q_norm.data) gain = float_to_bf16(bf16_to_float(gain) * 0.3f);
  return layer;
}

struct Request {
  FloatMatrix x;                     // [T, H]
  std::vector<int32_t> visible_end;  // [T]
};

Request make_request(Random& random, int64_t num_rows) {
  Request request = {random.floats(num_rows, kHidden), {}};
  request.visible_end.resize(static_cast<size_t>(num_rows));
  std::iota(request.visible_end.begin(), request.visible_end.end(), 0);
  return request;
}

void add_span(Request& request, int32_t begin, int32_t end) {
  for (int32_t t = begin; t < end; ++t) request.visible_end[static_cast<size_t>(t)] = end - 1;
}

// A piece of one request in one step.
struct Piece {
  size_t request;
  int32_t begin;
  int32_t end;
};
using Step = std::vector<Piece>;

// Feeds requests step by step. Blocks of all requests are scattered over one pool whose unused
// numbers are NaN: reading one shows.
class PagedRun {
 public:
  PagedRun(Ops& ops, Layer& layer, const std::vector<Request>& requests, int block_size)
      : ops_(ops), layer_(layer), requests_(requests), block_size_(block_size) {
    Random random(99);
    for (const Request& request : requests) {
      const int64_t count = (request.x.num_rows + block_size - 1) / block_size;
      first_block_.push_back(num_blocks_);
      num_blocks_ += static_cast<int32_t>(count);
      outputs_.emplace_back(request.x.num_rows,
                            int64_t{layer.shape.num_heads} * layer.shape.head_dim);
    }
    block_of_.resize(static_cast<size_t>(num_blocks_));
    std::iota(block_of_.begin(), block_of_.end(), 0);
    for (size_t i = block_of_.size(); i > 1; --i) {
      std::swap(block_of_[i - 1],
                block_of_[static_cast<size_t>(random.below(static_cast<int>(i)))]);
    }
    const AttentionShape& shape = layer.shape;
    cache_.assign(static_cast<size_t>(int64_t{num_blocks_} * shape.num_kv_heads * block_size *
                                      shape.cached_dim()),
                  NAN);
  }

  void step(const Step& pieces) {
    const Batch batch = make_batch(pieces);
    const AttentionShape shape = layer_.view();
    FloatMatrix x(static_cast<int64_t>(batch.positions.size()), kHidden);
    int64_t row = 0;
    for (const Piece& piece : pieces) {
      const FloatMatrix part = requests_[piece.request].x.rows(piece.begin, piece.end);
      std::copy(part.data.begin(), part.data.end(), x.row(row));
      row += part.num_rows;
    }
    FloatMatrix q(x.num_rows, int64_t{shape.num_heads} * shape.head_dim);
    FloatMatrix out = q;
    const KvCacheView cache = {
        {cache_.data(),
         DType::kFloat32,
         {num_blocks_, static_cast<int64_t>(cache_.size()) / std::max(num_blocks_, 1)}}};
    const BatchView view = batch.view();
    ops_.attention_inputs(shape, layer_.weights(), x.view(), view, cache, q.view());
    ops_.attention(shape, q.view(), view, cache, out.view());
    row = 0;
    for (const Piece& piece : pieces) {
      for (int32_t t = piece.begin; t < piece.end; ++t, ++row) {
        std::copy(out.row(row), out.row(row) + out.num_cols, outputs_[piece.request].row(t));
      }
    }
  }

  const FloatMatrix& output(size_t request) const { return outputs_[request]; }
  // Numbers of a position: K, then block_size * head_dim further V; or V, then rotated K.
  const float* cached(size_t request, int kv_head, int32_t position) const {
    const AttentionShape& shape = layer_.shape;
    const int64_t block =
        block_of_[static_cast<size_t>(first_block_[request] + position / block_size_)];
    const int64_t stride = shape.is_global() ? shape.cached_dim() : shape.head_dim;
    return cache_.data() +
           (block * shape.num_kv_heads + kv_head) * block_size_ * shape.cached_dim() +
           position % block_size_ * stride;
  }

 private:
  struct Batch {
    std::vector<int32_t> positions, query_start_loc = {0}, visible_end;
    std::vector<int32_t> block_ids, offsets = {0}, first_block;
    int block_size = 0;

    BatchView view() const {
      BatchView view;
      view.num_rows = static_cast<int>(positions.size());
      view.num_segments = static_cast<int>(first_block.size());
      view.positions = positions.data();
      view.query_start_loc = query_start_loc.data();
      view.visible_end = visible_end.data();
      const BlockTableView table = {block_ids.data(), offsets.data(), first_block.data(),
                                    block_size};
      view.global_blocks = table;
      view.sliding_blocks = table;
      return view;
    }
  };

  Batch make_batch(const Step& pieces) const {
    Batch batch;
    batch.block_size = block_size_;
    for (const Piece& piece : pieces) {
      for (int32_t t = piece.begin; t < piece.end; ++t) {
        batch.positions.push_back(t);
        batch.visible_end.push_back(requests_[piece.request].visible_end[static_cast<size_t>(t)]);
      }
      batch.query_start_loc.push_back(static_cast<int32_t>(batch.positions.size()));
      // Sliding tables begin at the first block that the window still reaches.
      const int window = layer_.shape.window;
      const int32_t first = window == 0 ? 0 : std::max(0, piece.begin - window + 1) / block_size_;
      batch.first_block.push_back(first);
      for (int32_t b = first; b * block_size_ < piece.end; ++b) {
        batch.block_ids.push_back(block_of_[static_cast<size_t>(first_block_[piece.request] + b)]);
      }
      batch.offsets.push_back(static_cast<int32_t>(batch.block_ids.size()));
    }
    return batch;
  }

  Ops& ops_;
  Layer& layer_;
  const std::vector<Request>& requests_;
  int block_size_;
  int32_t num_blocks_ = 0;
  std::vector<int32_t> first_block_;  // of each request
  std::vector<int32_t> block_of_;
  std::vector<float> cache_;
  std::vector<FloatMatrix> outputs_;
};

// The whole of every request in one step.
Step whole(const std::vector<Request>& requests) {
  Step step;
  for (size_t i = 0; i < requests.size(); ++i) {
    step.push_back({i, 0, static_cast<int32_t>(requests[i].x.num_rows)});
  }
  return step;
}

class AttentionTest : public IsaTest {
 protected:
  static AttentionShape sliding(int window) { return {4, 2, 32, 32, window, 0, nullptr}; }
  static AttentionShape global() { return {4, 1, 64, 16, 0, 0, nullptr}; }

  static void expect_reference(Layer& layer, const std::vector<Request>& requests, int block_size,
                               int num_threads) {
    const auto ops = make_ops(num_threads);
    PagedRun run(*ops, layer, requests, block_size);
    run.step(whole(requests));
    for (size_t i = 0; i < requests.size(); ++i) {
      if (requests[i].x.num_rows == 0) continue;
      const reference::Matrix expected =
          reference::attention(layer.exact(), requests[i].x.exact(), requests[i].visible_end);
      EXPECT_LT(relative_error(run.output(i), expected), kTolerance)
          << "request " << i << ", window " << layer.shape.window << ", block " << block_size;
    }
  }
};

TEST_P(AttentionTest, AgreesWithTheReference) {
  Random random(1);
  for (const AttentionShape& shape :
       {sliding(16), sliding(1000), sliding(1), global(),
        AttentionShape{4, 4, 72, 72, 9, 0, nullptr}, AttentionShape{8, 2, 72, 20, 0, 0, nullptr}}) {
    Layer layer = make_layer(random, shape);
    const std::vector<Request> requests = {make_request(random, 1), make_request(random, 0),
                                           make_request(random, 3), make_request(random, 150)};
    for (const int block_size : {16, 48, 128}) expect_reference(layer, requests, block_size, 2);
  }
}

TEST_P(AttentionTest, ImageSpansSeeForwardOnSlidingLayersOnly) {
  Random random(2);
  for (const AttentionShape& shape : {sliding(16), global()}) {
    Layer layer = make_layer(random, shape);
    std::vector<Request> requests = {make_request(random, 90)};
    add_span(requests[0], 5, 50);  // longer than the window
    add_span(requests[0], 51, 60);
    expect_reference(layer, requests, 16, 2);
  }
}

TEST_P(AttentionTest, PublishedHeadSizesAgreeWithTheReference) {
  Random random(3);
  for (const AttentionShape& shape : {AttentionShape{16, 8, 256, 256, 64, 0, nullptr},
                                      AttentionShape{16, 2, 512, 128, 0, 0, nullptr}}) {
    Layer layer = make_layer(random, shape);
    expect_reference(layer, {make_request(random, 85)}, 32, 2);
  }
}

// More keys than one span: partial results are merged.
TEST_P(AttentionTest, LongContextAgreesAndDecodesTheSame) {
  Random random(4);
  Layer layer = make_layer(random, {2, 1, 32, 16, 0, 0, nullptr});
  const std::vector<Request> requests = {make_request(random, 2100)};
  const auto ops = make_ops(1);
  PagedRun once(*ops, layer, requests, 64);
  once.step(whole(requests));
  const reference::Matrix expected =
      reference::attention(layer.exact(), requests[0].x.exact(), requests[0].visible_end);
  EXPECT_LT(relative_error(once.output(0), expected), kTolerance);

  // Alone, the last rows are split over threads by span.
  for (const int num_threads : {1, 2, 5}) {
    const auto other = make_ops(num_threads);
    PagedRun run(*other, layer, requests, 64);
    run.step({{0, 0, 2098}});
    run.step({{0, 2098, 2099}});
    run.step({{0, 2099, 2100}});
    EXPECT_TRUE(same_bits(run.output(0), once.output(0))) << num_threads << " threads";
  }
}

TEST_P(AttentionTest, ChunksBatchMatesAndThreadsDoNotChangeARow) {
  Random random(5);
  for (const AttentionShape& shape : {sliding(40), global()}) {
    Layer layer = make_layer(random, shape);
    std::vector<Request> requests = {make_request(random, 200), make_request(random, 131),
                                     make_request(random, 70)};
    add_span(requests[1], 20, 60);
    const auto ops = make_ops(1);
    PagedRun once(*ops, layer, requests, 16);
    once.step(whole(requests));
    for (const int num_threads : {1, 2}) {
      const auto other = make_ops(num_threads);
      PagedRun run(*other, layer, requests, 16);
      run.step({{0, 0, 7}, {1, 0, 60}});  // a span is never cut
      run.step({{1, 60, 61}, {2, 0, 0}, {0, 7, 100}});
      run.step({{2, 0, 69}, {0, 100, 101}, {1, 61, 131}});
      for (int32_t t = 101; t < 200; ++t) run.step({{0, t, t + 1}});
      run.step({{2, 69, 70}});
      for (size_t i = 0; i < requests.size(); ++i) {
        EXPECT_TRUE(same_bits(run.output(i), once.output(i))) << "request " << i;
      }
    }
  }
}

// The control: another block size moves the key tiles, which must be noticed (and stay correct).
TEST_P(AttentionTest, BitwiseComparisonSeesAnotherOrderOfKeys) {
  Random random(6);
  Layer layer = make_layer(random, global());
  const std::vector<Request> requests = {make_request(random, 150)};
  const auto ops = make_ops(1);
  PagedRun small(*ops, layer, requests, 16);
  PagedRun large(*ops, layer, requests, 48);
  small.step(whole(requests));
  large.step(whole(requests));
  EXPECT_FALSE(same_bits(small.output(0), large.output(0)));
  EXPECT_LT(relative_error(small.output(0), large.output(0).exact()), kTolerance);
}

TEST_P(AttentionTest, CacheHoldsWhatTheContractSays) {
  Random random(7);
  for (const AttentionShape& shape : {sliding(16), global()}) {
    Layer layer = make_layer(random, shape);
    const std::vector<Request> requests = {make_request(random, 40)};
    const auto ops = make_ops(1);
    PagedRun run(*ops, layer, requests, 16);
    run.step(whole(requests));
    const reference::KeysAndValues kv =
        reference::keys_and_values(layer.exact(), requests[0].x.exact());
    const int d = shape.head_dim;
    const int pairs = shape.rotary_dim / 2;
    for (int32_t t = 0; t < 40; t += 13) {
      for (int h = 0; h < shape.num_kv_heads; ++h) {
        const float* entry = run.cached(0, h, t);
        const float* value = shape.is_global() ? entry : entry + 16 * d;
        for (int i = 0; i < d; ++i) {
          EXPECT_NEAR(value[i], kv.values.at(t, h * d + i), 1e-5);
          if (shape.is_global()) continue;
          EXPECT_NEAR(entry[i], kv.keys.at(t, h * d + i), 1e-5);
        }
        for (int i = 0; shape.is_global() && i < pairs; ++i) {
          EXPECT_NEAR(entry[d + i], kv.keys.at(t, h * d + i), 1e-5);
          EXPECT_NEAR(entry[d + pairs + i], kv.keys.at(t, h * d + d / 2 + i), 1e-5);
        }
      }
    }
  }
}

// A key that a row does not see may hold anything.
TEST_P(AttentionTest, HiddenKeysAreNeverUsed) {
  Random random(8);
  for (const AttentionShape& shape : {sliding(20), global()}) {
    Layer layer = make_layer(random, shape);
    std::vector<Request> clean = {make_request(random, 60)};
    std::vector<Request> poisoned = clean;
    std::fill(poisoned[0].x.row(50), poisoned[0].x.row(51), NAN);
    const auto ops = make_ops(1);
    PagedRun a(*ops, layer, clean, 16);
    PagedRun b(*ops, layer, poisoned, 16);
    a.step(whole(clean));
    b.step(whole(poisoned));
    EXPECT_TRUE(same_bits(a.output(0).rows(0, 50), b.output(0).rows(0, 50)));
    EXPECT_TRUE(std::isnan(b.output(0).row(50)[0]));
  }
}

BERYL_INSTANTIATE_FOR_ISAS(AttentionTest);

}  // namespace
}  // namespace beryl::kernels
