// Products with weights, every path: skinny, tiles, cuBLASLt; the dense MLP; the LM head.
#include "tests/kernels/cuda/device_test.h"

namespace beryl::kernels {
namespace {

struct Shape {
  int64_t num_cols;
  int64_t k;
};

class CudaMatmulTest : public CudaTest {
 protected:
  static std::vector<int64_t> row_counts() {
    return kIsEmulated ? std::vector<int64_t>{0, 1, 3, 8, 9, 17, 32, 33, 65, 130}
                       : std::vector<int64_t>{0, 1, 3, 8, 9, 16, 17, 32, 33, 64, 65, 130, 1025};
  }
  static std::vector<Shape> shapes() {
    if (kIsEmulated) return {{40, 72}, {130, 8}, {150, 712}};
    return {{40, 72},     {130, 8},     {4096, 2816}, {2048, 2816}, {2816, 4096},
            {1024, 2816}, {2816, 8192}, {2816, 704},  {1001, 2112}};
  }

  void expect_linear(Ops& device, Shape shape, int64_t rows, Random& random) {
    const FloatMatrix x = rounded_to_bf16(random.floats(rows, shape.k));
    WeightMatrix weight = random.weights(shape.num_cols, shape.k, 0.05f);
    FloatMatrix copy = x;
    FloatMatrix expected(rows, shape.num_cols);
    cpu().linear(copy.view(), weight.view(), expected.view());
    const DeviceTensor device_x(device, x, DType::kBFloat16);
    const DeviceTensor device_weight(device, weight);
    const DeviceTensor out(device, DType::kFloat32, rows, shape.num_cols);
    device.linear(device_x.view(), device_weight.view(), out.view());
    EXPECT_LT(relative_error(out.floats(), expected), kFloatTolerance)
        << rows << " rows, " << shape.num_cols << " x " << shape.k;
  }
};

TEST_F(CudaMatmulTest, LinearAgreesAtEverySize) {
  Random random(1);
  for (const Shape shape : shapes()) {
    for (const int64_t rows : row_counts()) expect_linear(ops(), shape, rows, random);
  }
}

// The tile kernel of ours, where the default would take cuBLASLt.
TEST_F(CudaMatmulTest, TilesAgree) {
  const auto plain = plain_ops();
  Random random(2);
  for (const Shape shape : shapes()) {
    for (const int64_t rows : {int64_t{33}, int64_t{65}, int64_t{kIsEmulated ? 129 : 1025}}) {
      expect_linear(*plain, shape, rows, random);
    }
  }
}

// Few rows: a row's result is the same bits whatever the others are.
TEST_F(CudaMatmulTest, SkinnyRowsDoNotDependOnOthers) {
  Random random(3);
  const int64_t k = kIsEmulated ? 136 : 2816;
  const FloatMatrix x = random.floats(8, k);
  const DeviceTensor weight = on_device(random.weights(40, k, 0.05f));
  const DeviceTensor all = empty(DType::kFloat32, 8, 40);
  ops().linear(on_device(x, DType::kBFloat16).view(), weight.view(), all.view());
  for (const int64_t row : {0, 5}) {
    const DeviceTensor one = empty(DType::kFloat32, 1, 40);
    ops().linear(on_device(x.rows(row, row + 1), DType::kBFloat16).view(), weight.view(),
                 one.view());
    EXPECT_TRUE(same_bits(one.floats(), all.floats().rows(row, row + 1)));
  }
}

// The control: one changed weight of a column is seen.
TEST_F(CudaMatmulTest, ComparisonSeesOneWrongWeight) {
  Random random(4);
  const FloatMatrix x = rounded_to_bf16(random.floats(3, 704));
  WeightMatrix weight = random.weights(64, 704, 0.05f);
  FloatMatrix copy = x;
  FloatMatrix expected(3, 64);
  cpu().linear(copy.view(), weight.view(), expected.view());
  weight.data[5 * 704 + 700] ^= 0x8000;
  const DeviceTensor out = empty(DType::kFloat32, 3, 64);
  const DeviceTensor device_weight = on_device(weight);
  ops().linear(on_device(x, DType::kBFloat16).view(), device_weight.view(), out.view());
  EXPECT_GT(relative_error(out.floats(), expected), 10 * kFloatTolerance);
}

TEST_F(CudaMatmulTest, LogitsAreCapped) {
  Random random(5);
  const int64_t vocab = kIsEmulated ? 200 : 262144;
  const int64_t k = kIsEmulated ? 64 : 2816;
  WeightMatrix table = random.weights(vocab, k, 0.3f);
  const DeviceTensor device_table = on_device(table);
  for (const int64_t rows : {int64_t{1}, int64_t{3}, int64_t{40}}) {
    const FloatMatrix x = rounded_to_bf16(random.floats(rows, k));
    FloatMatrix copy = x;
    FloatMatrix expected(rows, vocab);
    cpu().logits(copy.view(), table.view(), 30, expected.view());
    const DeviceTensor out = empty(DType::kFloat32, rows, vocab);
    ops().logits(on_device(x, DType::kBFloat16).view(), device_table.view(), 30, out.view());
    EXPECT_LT(relative_error(out.floats(), expected), kFloatTolerance) << rows;
  }
}

TEST_F(CudaMatmulTest, GatedMlpAgrees) {
  Random random(6);
  const int64_t hidden = kIsEmulated ? 136 : 2816;
  const int64_t width = kIsEmulated ? 72 : 2112;
  WeightMatrix gate = random.weights(width, hidden, 0.05f);
  WeightMatrix up = random.weights(width, hidden, 0.05f);
  WeightMatrix down = random.weights(hidden, width, 0.05f);
  const DeviceTensor device_gate = on_device(gate);
  const DeviceTensor device_up = on_device(up);
  const DeviceTensor device_down = on_device(down);
  const auto plain = plain_ops();
  for (const int64_t rows : row_counts()) {
    const FloatMatrix x = rounded_to_bf16(random.floats(rows, hidden));
    FloatMatrix copy = x;
    FloatMatrix expected(rows, hidden);
    cpu().gated_mlp({gate.view(), up.view(), down.view()}, copy.view(), expected.view());
    const DeviceTensor device_x = on_device(x, DType::kBFloat16);
    for (Ops* device : {&ops(), plain.get()}) {
      const DeviceTensor out = empty(DType::kFloat32, rows, hidden);
      ops().download(nullptr, nullptr, 0);  // the other stream must see what was uploaded
      device->gated_mlp({device_gate.view(), device_up.view(), device_down.view()}, device_x.view(),
                        out.view());
      device->download(nullptr, nullptr, 0);
      EXPECT_LT(relative_error(out.floats(), expected), kInnerTolerance) << rows;
    }
  }
}

}  // namespace
}  // namespace beryl::kernels
