#include "tests/kernels/test_util.h"

namespace beryl::kernels {
namespace {

// Float32 sums of a few thousand products; the lanes keep the error of a sum near 1e-6 of its
// terms.
constexpr double kTolerance = 2e-6;

class LinearTest : public IsaTest {
 protected:
  static FloatMatrix linear(Ops& ops, FloatMatrix x, WeightMatrix& w) {
    FloatMatrix out(x.num_rows, w.num_rows);
    ops.linear(x.view(), w.view(), out.view());
    return out;
  }
};

TEST_P(LinearTest, AgreesWithTheReference) {
  const auto ops = make_ops(2);
  Random random(1);
  for (const int64_t k : {1, 8, 31, 48, 72, 96, 704, 705, 1500}) {
    for (const int64_t n : {1, 3, 5, 24, 101}) {
      WeightMatrix w = random.weights(n, k, 0.1f);
      for (const int64_t rows : {0, 1, 2, 3, 4, 5, 7, 25, 65}) {
        const FloatMatrix x = random.floats(rows, k);
        const FloatMatrix out = linear(*ops, x, w);
        EXPECT_LT(relative_error(out, reference::linear(x.exact(), w.exact())), kTolerance)
            << rows << " rows, " << k << " -> " << n;
      }
    }
  }
}

TEST_P(LinearTest, RowsDoNotDependOnTheOthers) {
  const auto ops = make_ops();
  Random random(2);
  for (const int64_t k : {48, 705, 2816}) {
    WeightMatrix w = random.weights(100, k, 0.1f);
    const FloatMatrix x = random.floats(65, k);
    const FloatMatrix all = linear(*ops, x, w);
    for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 24, 25, 26, 64}) {
      for (int64_t first = 0; first + rows <= 65; first += rows + 11) {
        const FloatMatrix part = linear(*ops, x.rows(first, first + rows), w);
        ASSERT_TRUE(same_bits(part, all.rows(first, first + rows))) << rows << " rows, k " << k;
      }
    }
  }
}

TEST_P(LinearTest, ThreadsDoNotChangeResults) {
  Random random(3);
  WeightMatrix w = random.weights(333, 1408, 0.1f);
  for (const int64_t rows : {1, 3, 40}) {
    const FloatMatrix x = random.floats(rows, 1408);
    const FloatMatrix one = linear(*make_ops(1), x, w);
    for (const int num_threads : {2, 3, 5}) {
      EXPECT_TRUE(same_bits(one, linear(*make_ops(num_threads), x, w))) << num_threads;
    }
  }
}

// The control of the two tests above: sums in another order are as good, and must be noticed.
TEST_P(LinearTest, BitwiseComparisonSeesAnotherOrderOfTheSum) {
  const auto ops = make_ops();
  Random random(4);
  constexpr int64_t kWidth = 1408;
  WeightMatrix w = random.weights(16, kWidth, 0.1f);
  const FloatMatrix x = random.floats(4, kWidth);
  FloatMatrix permuted_x = x;
  WeightMatrix permuted_w = w;
  for (int64_t r = 0; r < 4; ++r) std::reverse(permuted_x.row(r), permuted_x.row(r) + kWidth);
  for (int64_t r = 0; r < 16; ++r) {
    std::reverse(permuted_w.data.begin() + r * kWidth, permuted_w.data.begin() + (r + 1) * kWidth);
  }
  const FloatMatrix expected = linear(*ops, x, w);
  const FloatMatrix permuted = linear(*ops, permuted_x, permuted_w);
  EXPECT_LT(relative_error(permuted, expected.exact()), kTolerance);
  EXPECT_FALSE(same_bits(permuted, expected));
}

TEST_P(LinearTest, LogitsAreCapped) {
  const auto ops = make_ops(2);
  Random random(5);
  WeightMatrix table = random.weights(1000, 96, 2.0f);
  FloatMatrix x = random.floats(3, 96);
  FloatMatrix out(3, 1000);
  ops->logits(x.view(), table.view(), 30, out.view());
  reference::Matrix expected = reference::linear(x.exact(), table.exact());
  for (double& value : expected.data) value = 30 * std::tanh(value / 30);
  EXPECT_LT(relative_error(out, expected), kTolerance);

  FloatMatrix one = x.rows(1, 2);
  FloatMatrix one_out(1, 1000);
  make_ops(1)->logits(one.view(), table.view(), 30, one_out.view());
  EXPECT_TRUE(same_bits(one_out, out.rows(1, 2)));
}

BERYL_INSTANTIATE_FOR_ISAS(LinearTest);

}  // namespace
}  // namespace beryl::kernels
