// Operations of the vision tower against the CPU back end.
#include <algorithm>

#include "tests/kernels/cuda/device_test.h"

namespace beryl::kernels {
namespace {

using Grids = std::vector<PatchGrid>;

PatchBatch batch_of(const Grids& grids) {
  return {static_cast<int>(grids.size()), grids.data()};
}

class CudaVisionTest : public CudaTest {
 protected:
  struct Pictures {
    std::vector<std::vector<uint8_t>> pixels;
    std::vector<ImageView> views;
  };
  static Pictures make_pictures(Random& random, const Grids& grids, int patch_size) {
    Pictures made;
    for (const PatchGrid& grid : grids) {
      std::vector<uint8_t> pixels;
      for (int64_t i = 0; i < grid.num_patches() * 3 * patch_size * patch_size; ++i) {
        pixels.push_back(static_cast<uint8_t>(random.below(256)));
      }
      made.pixels.push_back(std::move(pixels));
      made.views.push_back(
          {made.pixels.back().data(), grid.height * patch_size, grid.width * patch_size});
    }
    return made;
  }
};

// Bit for bit, also as bf16: the roundings are the same.
TEST_F(CudaVisionTest, PatchesAreThoseOfTheCpu) {
  Random random(1);
  for (const int patch_size : {4, 16}) {
    const Grids grids = {{3, 7}, {1, 1}, {5, 2}};
    const Pictures pictures = make_pictures(random, grids, patch_size);
    const int64_t rows = batch_of(grids).num_patches();
    FloatMatrix expected(rows, int64_t{3} * patch_size * patch_size);
    cpu().cut_patches(pictures.views.data(), 3, patch_size, expected.view());
    const DeviceTensor floats = empty(DType::kFloat32, rows, expected.num_cols);
    ops().cut_patches(pictures.views.data(), 3, patch_size, floats.view());
    EXPECT_TRUE(same_bits(floats.floats(), expected)) << patch_size;
    const DeviceTensor halves = empty(DType::kBFloat16, rows, expected.num_cols);
    ops().cut_patches(pictures.views.data(), 3, patch_size, halves.view());
    EXPECT_TRUE(same_bits(halves.floats(), rounded_to_bf16(expected))) << patch_size;
    // The control: the second picture before the first.
    std::vector<ImageView> swapped = pictures.views;
    std::swap(swapped[0], swapped[1]);
    ops().cut_patches(swapped.data(), 3, patch_size, floats.view());
    EXPECT_FALSE(same_bits(floats.floats(), expected));
  }
}

TEST_F(CudaVisionTest, PositionsAreThoseOfTheCpu) {
  Random random(2);
  for (const int64_t width : {72, 1152}) {
    WeightMatrix table = random.weights(2 * 9, width, 1);
    const DeviceTensor device_table = on_device(table);
    const FloatMatrix x = random.floats(33, width);
    const auto on_cpu = [&](const Grids& grids) {
      FloatMatrix copy = x;
      cpu().add_patch_positions({table.data.data(), DType::kBFloat16, {2, 9, width}},
                                batch_of(grids), copy.view());
      return copy;
    };
    const DeviceTensor actual = on_device(x);
    const Grids grids = {{5, 3}, {1, 9}, {9, 1}};
    ops().add_patch_positions(device_table.shaped({2, 9, width}), batch_of(grids), actual.view());
    EXPECT_TRUE(same_bits(actual.floats(), on_cpu(grids)));
    // The control: one grid turned.
    EXPECT_FALSE(same_bits(actual.floats(), on_cpu({{3, 5}, {1, 9}, {9, 1}})));
  }
}

TEST_F(CudaVisionTest, PoolingAgrees) {
  Random random(3);
  const Grids grids = {{6, 9}, {3, 3}, {12, 3}};
  for (const int64_t width : {72, 1152}) {
    WeightMatrix bias = random.weights(1, width, 0.5f);
    WeightMatrix scale = random.gains(width);
    const DeviceTensor device_bias = on_device(bias);
    const DeviceTensor device_scale = on_device(scale);
    FloatMatrix x = random.floats(99, width);
    const DeviceTensor device_x = on_device(x);
    for (const bool standardizes : {true, false}) {
      PatchPooling pooling = {3, 33.941f, {}, {}};
      PatchPooling device_pooling = pooling;
      if (standardizes) {
        pooling.std_bias = bias.vector_view();
        pooling.std_scale = scale.vector_view();
        device_pooling.std_bias = device_bias.vector_view();
        device_pooling.std_scale = device_scale.vector_view();
      }
      FloatMatrix expected(11, width);
      cpu().pool_patches(pooling, x.view(), batch_of(grids), expected.view());
      const DeviceTensor out = empty(DType::kFloat32, 11, width);
      ops().pool_patches(device_pooling, device_x.view(), batch_of(grids), out.view());
      EXPECT_LT(relative_error(out.floats(), expected), 1e-6) << standardizes;
      // The control: pictures in another order, cells of the same size.
      const Grids turned = {{9, 6}, {3, 3}, {12, 3}};
      ops().pool_patches(device_pooling, device_x.view(), batch_of(turned), out.view());
      EXPECT_GT(relative_error(out.floats(), expected), 1e-2);
    }
  }
}

struct Layer {
  PatchAttentionShape shape;
  std::vector<float> inv_freq;
  WeightMatrix weights[5];  // q, k, v projections, q, k norms

  PatchAttentionShape view() const {
    PatchAttentionShape copy = shape;
    copy.inv_freq = inv_freq.data();
    return copy;
  }
};

AttentionWeights weights_of(const TensorView (&v)[5]) {
  return {v[0],
          v[1],
          v[2],
          {v[3].data, v[3].dtype, {v[3].num_elements()}},
          {v[4].data, v[4].dtype, {v[4].num_elements()}}};
}

class CudaPatchAttentionTest : public CudaVisionTest {
 protected:
  static Layer make_layer(Random& random, int num_heads, int head_dim, int64_t hidden) {
    Layer layer;
    layer.shape = {num_heads, head_dim, 1e-6f, nullptr};
    for (int i = 0; i < head_dim / 4; ++i) {
      layer.inv_freq.push_back(
          std::pow(100.0f, -4.0f * static_cast<float>(i) / static_cast<float>(head_dim)));
    }
    for (int i = 0; i < 3; ++i) {
      layer.weights[i] = random.weights(int64_t{num_heads} * head_dim, hidden, 0.1f);
    }
    layer.weights[3] = random.gains(head_dim);
    layer.weights[4] = random.gains(head_dim);
    return layer;
  }

  struct Qkv {
    FloatMatrix q, k, v;
  };
  Qkv inputs_on_cpu(Layer& layer, const FloatMatrix& x, const Grids& grids) {
    const int64_t width = int64_t{layer.shape.num_heads} * layer.shape.head_dim;
    Qkv out = {{x.num_rows, width}, {x.num_rows, width}, {x.num_rows, width}};
    const TensorView views[5] = {layer.weights[0].view(), layer.weights[1].view(),
                                 layer.weights[2].view(), layer.weights[3].view(),
                                 layer.weights[4].view()};
    FloatMatrix copy = x;
    cpu().patch_attention_inputs(layer.view(), weights_of(views), copy.view(), batch_of(grids),
                                 {out.q.view(), out.k.view(), out.v.view()});
    return out;
  }
  Qkv inputs_on_device(Layer& layer, const FloatMatrix& x, const Grids& grids) {
    const int64_t width = int64_t{layer.shape.num_heads} * layer.shape.head_dim;
    const DeviceTensor w[5] = {on_device(layer.weights[0]), on_device(layer.weights[1]),
                               on_device(layer.weights[2]), on_device(layer.weights[3]),
                               on_device(layer.weights[4])};
    const TensorView views[5] = {w[0].view(), w[1].view(), w[2].view(), w[3].view(), w[4].view()};
    const DeviceTensor q = empty(DType::kBFloat16, x.num_rows, width);
    const DeviceTensor k = empty(DType::kBFloat16, x.num_rows, width);
    const DeviceTensor v = empty(DType::kBFloat16, x.num_rows, width);
    ops().patch_attention_inputs(layer.view(), weights_of(views),
                                 on_device(x, DType::kBFloat16).view(), batch_of(grids),
                                 {q.view(), k.view(), v.view()});
    return {q.floats(), k.floats(), v.floats()};
  }

  // Scores of a few units; both sides get the same bf16 numbers.
  static Qkv make_qkv(Random& random, int64_t rows, int64_t width, int head_dim) {
    Qkv made = {random.floats(rows, width), random.floats(rows, width), random.floats(rows, width)};
    const float scale = 2.0f / std::sqrt(static_cast<float>(head_dim));
    for (float& value : made.q.data) value *= scale;
    return {rounded_to_bf16(made.q), rounded_to_bf16(made.k), rounded_to_bf16(made.v)};
  }
  FloatMatrix attention_on_cpu(const PatchAttentionShape& shape, Qkv qkv, const Grids& grids) {
    FloatMatrix out(qkv.q.num_rows, qkv.q.num_cols);
    cpu().patch_attention(shape, {qkv.q.view(), qkv.k.view(), qkv.v.view()}, batch_of(grids),
                          out.view());
    return out;
  }
  static FloatMatrix attention_on(Ops& device, const PatchAttentionShape& shape, const Qkv& qkv,
                                  const Grids& grids) {
    const DeviceTensor q(device, qkv.q, DType::kBFloat16);
    const DeviceTensor k(device, qkv.k, DType::kBFloat16);
    const DeviceTensor v(device, qkv.v, DType::kBFloat16);
    const DeviceTensor out(device, DType::kBFloat16, qkv.q.num_rows, qkv.q.num_cols);
    device.patch_attention(shape, {q.view(), k.view(), v.view()}, batch_of(grids), out.view());
    return out.floats();
  }
};

TEST_F(CudaPatchAttentionTest, QueriesKeysAndValuesAgree) {
  Random random(4);
  const Grids grids = {{4, 7}, {1, 1}, {2, 9}};
  const int64_t rows = batch_of(grids).num_patches();
  struct Size {
    int num_heads, head_dim;
    int64_t hidden;
  };
  for (const Size& size :
       {Size{16, 72, kIsEmulated ? 72 : 1152}, Size{2, 36, 72}, Size{3, 16, 48}, Size{2, 32, 64}}) {
    Layer layer = make_layer(random, size.num_heads, size.head_dim, size.hidden);
    const FloatMatrix x = rounded_to_bf16(random.floats(rows, size.hidden));
    const Qkv expected = inputs_on_cpu(layer, x, grids);
    const Qkv actual = inputs_on_device(layer, x, grids);
    EXPECT_LT(relative_error(actual.q, expected.q), kBf16Tolerance) << size.head_dim;
    EXPECT_LT(relative_error(actual.k, expected.k), kBf16Tolerance) << size.head_dim;
    EXPECT_LT(relative_error(actual.v, expected.v), kBf16Tolerance) << size.head_dim;
    // The control: columns and rows are not the same thing.
    const Qkv turned = inputs_on_cpu(layer, x, {{7, 4}, {1, 1}, {2, 9}});
    EXPECT_GT(relative_error(actual.q, turned.q), 10 * kBf16Tolerance);
  }
}

TEST_F(CudaPatchAttentionTest, AttentionAgrees) {
  Random random(5);
  // Around the borders of tiles of 64 keys and 128 queries, pictures of one patch between.
  std::vector<Grids> batches = {
      {{1, 1}}, {{8, 8}, {1, 1}, {5, 13}}, {{9, 15}, {3, 3}, {1, 127}, {16, 8}, {3, 43}}};
  if (!kIsEmulated) batches.push_back({{36, 70}, {60, 42}});
  for (const Grids& grids : batches) {
    const int64_t rows = batch_of(grids).num_patches();
    for (const auto& [num_heads, head_dim] :
         {std::pair{2, 72}, std::pair{2, 36}, std::pair{1, 16}, std::pair{2, 32}}) {
      const PatchAttentionShape shape = {num_heads, head_dim, 1e-6f, nullptr};
      const Qkv qkv = make_qkv(random, rows, int64_t{num_heads} * head_dim, head_dim);
      EXPECT_LT(relative_error(attention_on(ops(), shape, qkv, grids),
                               attention_on_cpu(shape, qkv, grids)),
                kInnerTolerance)
          << rows << " patches, head size " << head_dim;
    }
  }
}

// NaN in the neighbours, which lie directly before and behind: nothing of them is looked at. And a
// picture has the same bits alone and in company.
TEST_F(CudaPatchAttentionTest, NeighboursAreNotSeen) {
  Random random(6);
  const PatchAttentionShape shape = {2, 72, 1e-6f, nullptr};
  const Qkv alone = make_qkv(random, 10 * 14, 144, 72);
  const auto between = [](const FloatMatrix& m) {
    FloatMatrix all(7 * 6 + m.num_rows + 9, m.num_cols);
    std::fill(all.data.begin(), all.data.end(), NAN);
    std::copy(m.data.begin(), m.data.end(), all.row(42));
    return all;
  };
  const Qkv all = {between(alone.q), between(alone.k), between(alone.v)};
  const auto plain = plain_ops();
  for (Ops* device : {&ops(), plain.get()}) {
    const FloatMatrix reference = attention_on(*device, shape, alone, {{10, 14}});
    const FloatMatrix out = attention_on(*device, shape, all, {{7, 6}, {10, 14}, {3, 3}});
    EXPECT_TRUE(same_bits(out.rows(42, 42 + 140), reference));
    EXPECT_TRUE(std::isnan(out.row(0)[0]));
  }
}

// The control: the comparison sees the key of one neighbouring patch.
TEST_F(CudaPatchAttentionTest, ComparisonSeesANeighboursKey) {
  Random random(7);
  const PatchAttentionShape shape = {1, 72, 1e-6f, nullptr};
  Qkv qkv = make_qkv(random, 81, 72, 72);
  const FloatMatrix expected = attention_on_cpu(shape, qkv, {{8, 10}, {1, 1}});
  const FloatMatrix seen = attention_on(ops(), shape, qkv, {{9, 9}});
  EXPECT_GT(relative_error(seen.rows(0, 80), expected.rows(0, 80)), 2 * kInnerTolerance);
}

TEST_F(CudaPatchAttentionTest, LargestPictureAgreesWithThePlainKernel) {
  Random random(8);
  const Grids grids = {kIsEmulated ? PatchGrid{11, 13} : PatchGrid{84, 120}, {3, 3}};
  const int num_heads = kIsEmulated ? 1 : 16;
  const PatchAttentionShape shape = {num_heads, 72, 1e-6f, nullptr};
  const Qkv qkv = make_qkv(random, batch_of(grids).num_patches(), int64_t{num_heads} * 72, 72);
  const auto plain = plain_ops();
  EXPECT_LT(relative_error(attention_on(ops(), shape, qkv, grids),
                           attention_on(*plain, shape, qkv, grids)),
            kInnerTolerance);
}

TEST_F(CudaPatchAttentionTest, NoPicturesAreLegal) {
  Random random(9);
  Layer layer = make_layer(random, 2, 16, 32);
  const Qkv none = inputs_on_device(layer, FloatMatrix(0, 32), {});
  EXPECT_EQ(none.q.num_rows, 0);
  EXPECT_EQ(attention_on(ops(), layer.view(), none, {}).num_rows, 0);
  ops().cut_patches(nullptr, 0, 16, empty(DType::kBFloat16, 0, 768).view());
}

}  // namespace
}  // namespace beryl::kernels
