// Operations of the vision tower.
#include <algorithm>
#include <numeric>

#include "tests/kernels/test_util.h"
#include "tests/reference/vision_reference.h"

namespace beryl::kernels {
namespace {

constexpr double kTolerance = 2e-6;
constexpr double kAttentionTolerance = 2e-5;  // scores are sums of large products

class VisionTest : public IsaTest {};

reference::Picture make_picture(Random& random, int height, int width) {
  reference::Picture picture = {height, width, {}};
  for (int i = 0; i < height * width * 3; ++i) {
    picture.pixels.push_back(static_cast<uint8_t>(random.below(256)));
  }
  return picture;
}

ImageView view_of(const reference::Picture& picture) {
  return {picture.pixels.data(), picture.height, picture.width};
}

PatchBatch batch_of(const std::vector<PatchGrid>& grids) {
  return {static_cast<int>(grids.size()), grids.data()};
}

TEST_P(VisionTest, PatchesAreCutRowByRowWithChannelsSideBySide) {
  const auto ops = make_ops(2);
  Random random(1);
  for (const int patch_size : {1, 5, 16}) {
    const std::vector<reference::Picture> pictures = {
        make_picture(random, 3 * patch_size, 7 * patch_size),
        make_picture(random, patch_size, patch_size)};
    const std::vector<ImageView> views = {view_of(pictures[0]), view_of(pictures[1])};
    FloatMatrix out(22, 3 * patch_size * patch_size);
    ops->cut_patches(views.data(), 2, patch_size, out.view());
    EXPECT_LT(relative_error(out.rows(0, 21), reference::cut_patches(pictures[0], patch_size)),
              kTolerance);
    EXPECT_LT(relative_error(out.rows(21, 22), reference::cut_patches(pictures[1], patch_size)),
              kTolerance);
  }
}

TEST_P(VisionTest, PixelsGoThroughTheRoundingsOfTheReference) {
  const auto ops = make_ops();
  std::vector<uint8_t> pixels(3 * 256);
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<uint8_t>(i / 3);
  const ImageView image = {pixels.data(), 1, 256};
  FloatMatrix out(256, 3);
  ops->cut_patches(&image, 1, 1, out.view());
  for (int i = 0; i < 256; ++i) {
    const float scaled = static_cast<float>(i) * 0.003921568859368563f;
    EXPECT_EQ(out.row(i)[1], 2 * (scaled - 0.5f)) << i;
  }
}

TEST_P(VisionTest, PositionsAddAColumnAndARow) {
  const auto ops = make_ops(2);
  Random random(2);
  const std::vector<PatchGrid> grids = {{5, 3}, {1, 9}, {9, 1}};
  for (const int64_t width : {1, 36, 72, 75}) {
    WeightMatrix table = random.weights(2 * 9, width, 1);
    const TensorView view = {table.data.data(), DType::kBFloat16, {2, 9, width}};
    FloatMatrix x = random.floats(33, width);
    const FloatMatrix before = x;
    ops->add_patch_positions(view, batch_of(grids), x.view());
    int64_t p = 0;
    for (const PatchGrid& grid : grids) {
      for (int64_t i = 0; i < grid.num_patches(); ++i, ++p) {
        for (int64_t c = 0; c < width; ++c) {
          const float column =
              bf16_to_float(table.data[static_cast<size_t>(i % grid.width * width + c)]);
          const float row =
              bf16_to_float(table.data[static_cast<size_t>((9 + i / grid.width) * width + c)]);
          ASSERT_EQ(x.row(p)[c], before.row(p)[c] + (column + row));
        }
      }
    }
  }
}

struct Layer {
  PatchAttentionShape shape;
  std::vector<float> inv_freq;
  WeightMatrix q_proj, k_proj, v_proj, q_norm, k_norm;

  PatchAttentionShape view() const {
    PatchAttentionShape copy = shape;
    copy.inv_freq = inv_freq.data();
    return copy;
  }
  AttentionWeights weights() {
    return {q_proj.view(), k_proj.view(), v_proj.view(), q_norm.vector_view(),
            k_norm.vector_view()};
  }
  reference::PatchAttentionLayer exact() const {
    return {shape.num_heads, shape.head_dim,      shape.rms_norm_eps,
            inv_freq,        q_proj.exact(),      k_proj.exact(),
            v_proj.exact(),  q_norm.exact().data, k_norm.exact().data};
  }
};

constexpr int kHidden = 40;

Layer make_layer(Random& random, int num_heads, int head_dim) {
  Layer layer;
  layer.shape = {num_heads, head_dim, 1e-6f, nullptr};
  for (int i = 0; i < head_dim / 4; ++i) {
    layer.inv_freq.push_back(
        std::pow(100.0f, -4.0f * static_cast<float>(i) / static_cast<float>(head_dim)));
  }
  layer.q_proj = random.weights(int64_t{num_heads} * head_dim, kHidden, 0.1f);
  layer.k_proj = random.weights(int64_t{num_heads} * head_dim, kHidden, 0.1f);
  layer.v_proj = random.weights(int64_t{num_heads} * head_dim, kHidden, 0.1f);
  layer.q_norm = random.gains(head_dim);
  layer.k_norm = random.gains(head_dim);
  // Scores of a few units, as in a trained model.
  for (uint16_t& gain : layer.q_norm.data) gain = float_to_bf16(bf16_to_float(gain) * 0.35f);
  return layer;
}

// Both operations on the pictures of one call.
FloatMatrix run_attention(Ops& ops, Layer& layer, FloatMatrix x,
                          const std::vector<PatchGrid>& grids) {
  const int64_t width = int64_t{layer.shape.num_heads} * layer.shape.head_dim;
  FloatMatrix q(x.num_rows, width), k = q, v = q, out = q;
  const PatchQkv qkv = {q.view(), k.view(), v.view()};
  ops.patch_attention_inputs(layer.view(), layer.weights(), x.view(), batch_of(grids), qkv);
  ops.patch_attention(layer.view(), qkv, batch_of(grids), out.view());
  return out;
}

TEST_P(VisionTest, AttentionAgreesWithTheReference) {
  const auto ops = make_ops(2);
  Random random(3);
  const std::vector<PatchGrid> grids = {{1, 1}, {3, 3}, {9, 15}, {30, 12}, {1, 64}, {5, 13}};
  int64_t num_patches = 0;
  for (const PatchGrid& grid : grids) num_patches += grid.num_patches();
  for (const auto& [num_heads, head_dim] :
       {std::pair{2, 72}, std::pair{3, 36}, std::pair{1, 4}, std::pair{2, 20}}) {
    Layer layer = make_layer(random, num_heads, head_dim);
    const FloatMatrix x = random.floats(num_patches, kHidden);
    const FloatMatrix out = run_attention(*ops, layer, x, grids);
    int64_t begin = 0;
    for (const PatchGrid& grid : grids) {
      const int64_t end = begin + grid.num_patches();
      const reference::Matrix expected =
          reference::patch_attention(layer.exact(), x.rows(begin, end).exact(), grid.width);
      EXPECT_LT(relative_error(out.rows(begin, end), expected), kAttentionTolerance)
          << grid.height << " x " << grid.width << ", head size " << head_dim;
      begin = end;
    }
  }
}

TEST_P(VisionTest, OtherPicturesAndThreadsDoNotChangeARow) {
  Random random(4);
  Layer layer = make_layer(random, 3, 72);
  const FloatMatrix x = random.floats(12 * 18, kHidden);
  const FloatMatrix alone = run_attention(*make_ops(1), layer, x, {{12, 18}});
  for (const int num_threads : {1, 2, 5}) {
    // Between two pictures whose numbers are NaN.
    FloatMatrix all(7 * 6 + x.num_rows + 9, kHidden);
    std::fill(all.data.begin(), all.data.end(), NAN);
    std::copy(x.data.begin(), x.data.end(), all.row(42));
    const FloatMatrix out =
        run_attention(*make_ops(num_threads), layer, all, {{7, 6}, {12, 18}, {3, 3}});
    EXPECT_TRUE(same_bits(out.rows(42, 42 + x.num_rows), alone)) << num_threads << " threads";
    EXPECT_TRUE(std::isnan(out.row(0)[0]));
  }
}

// The control: columns and rows are not the same thing.
TEST_P(VisionTest, ATurnedGridIsNoticed) {
  Random random(5);
  Layer layer = make_layer(random, 2, 72);
  const FloatMatrix x = random.floats(6 * 9, kHidden);
  const auto ops = make_ops();
  const reference::Matrix expected =
      reference::patch_attention(layer.exact(), x.exact(), /*width=*/9);
  EXPECT_LT(relative_error(run_attention(*ops, layer, x, {{6, 9}}), expected), kAttentionTolerance);
  EXPECT_GT(relative_error(run_attention(*ops, layer, x, {{9, 6}}), expected), 1e-2);
}

TEST_P(VisionTest, PoolingAgreesWithTheReference) {
  const auto ops = make_ops(2);
  Random random(6);
  const std::vector<PatchGrid> grids = {{6, 9}, {3, 3}, {12, 3}};
  constexpr float kScale = 8.485281f;
  for (const int64_t width : {1, 72, 77}) {
    WeightMatrix bias = random.weights(1, width, 0.5f);
    WeightMatrix scale = random.gains(width);
    const FloatMatrix x = random.floats(99, width);
    for (const bool standardizes : {true, false}) {
      PatchPooling pooling = {3, kScale, {}, {}};
      if (standardizes) {
        pooling.std_bias = bias.vector_view();
        pooling.std_scale = scale.vector_view();
      }
      FloatMatrix input = x;
      FloatMatrix out(11, width);
      ops->pool_patches(pooling, input.view(), batch_of(grids), out.view());
      int64_t begin = 0;
      for (const PatchGrid& grid : grids) {
        const int64_t end = begin + grid.num_patches();
        const reference::Matrix expected =
            reference::pool_patches(x.rows(begin, end).exact(), grid.width, 3, kScale,
                                    standardizes ? bias.exact().data : reference::Vector{},
                                    standardizes ? scale.exact().data : reference::Vector{});
        EXPECT_LT(relative_error(out.rows(begin / 9, end / 9), expected), kTolerance);
        begin = end;
      }
    }
  }
}

TEST_P(VisionTest, NoPicturesAreLegal) {
  const auto ops = make_ops(2);
  Random random(7);
  Layer layer = make_layer(random, 2, 8);
  FloatMatrix none(0, kHidden);
  EXPECT_EQ(run_attention(*ops, layer, none, {}).num_rows, 0);
  ops->cut_patches(nullptr, 0, 16, FloatMatrix(0, 768).view());
}

BERYL_INSTANTIATE_FOR_ISAS(VisionTest);

}  // namespace
}  // namespace beryl::kernels
