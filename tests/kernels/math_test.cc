// The vector functions against double precision, and instruction sets against each other.
#include "kernels/cpu/kernel_table.h"
#include "tests/kernels/test_util.h"

namespace beryl::kernels {
namespace {

class MathTest : public IsaTest {
 protected:
  static const cpu::KernelTable& kernels() { return cpu::kernel_table(GetParam()); }
};

// |actual - expected| in units of the last place of `scale`.
double ulps(float actual, double expected, double scale) {
  const float size = std::abs(static_cast<float>(scale));
  const double unit = double{std::nextafter(size, INFINITY)} - double{size};
  return std::abs(double{actual} - expected) / unit;
}

std::vector<float> grid(float begin, float end, int count) {
  std::vector<float> x(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) {
    x[static_cast<size_t>(i)] =
        begin + (end - begin) * static_cast<float>(i) / static_cast<float>(count - 1);
  }
  return x;
}

TEST_P(MathTest, ExpIsWithinTwoUlps) {
  const std::vector<float> x = grid(-86.8f, 88.6f, 200001);
  std::vector<float> y(x.size());
  kernels().exp_masses(x.data(), 0, 1, static_cast<int>(x.size()), y.data());
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double expected = std::exp(double{x[i]});
    worst = std::max(worst, ulps(y[i], expected, expected));
  }
  EXPECT_LT(worst, 2);
  RecordProperty("worst_ulps_times_100", static_cast<int>(worst * 100));

  const std::vector<float> special = {-INFINITY, -200, -87, 0, NAN};
  kernels().exp_masses(special.data(), 0, 1, 5, y.data());
  EXPECT_EQ(y[0], 0);
  EXPECT_EQ(y[1], 0);
  EXPECT_EQ(y[2], 0);
  EXPECT_EQ(y[3], 1);
  EXPECT_TRUE(std::isnan(y[4]));
}

TEST_P(MathTest, TanhIsWithinThreeUlps) {
  std::vector<float> x = grid(-12, 12, 100001);
  const std::vector<float> small = grid(-1e-3f, 1e-3f, 1001);
  x.insert(x.end(), small.begin(), small.end());
  std::vector<float> y = x;
  kernels().softcap_row(y.data(), 1, static_cast<int>(y.size()));
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double expected = std::tanh(double{x[i]});
    worst = std::max(worst, ulps(y[i], expected, expected));
  }
  EXPECT_LT(worst, 3);
  RecordProperty("worst_ulps_times_100", static_cast<int>(worst * 100));
  std::vector<float> special = {INFINITY, -INFINITY, NAN, 1e30f};
  kernels().softcap_row(special.data(), 1, 4);
  EXPECT_EQ(special[0], 1);
  EXPECT_EQ(special[1], -1);
  EXPECT_TRUE(std::isnan(special[2]));
  EXPECT_EQ(special[3], 1);
}

TEST_P(MathTest, GeluIsWithinFourUlpsOfItsArgument) {
  const std::vector<float> x = grid(-20, 20, 96000);
  const std::vector<float> up(x.size(), 1);
  std::vector<float> packed(x.size());
  std::vector<float> order(x.size());
  std::vector<float> index(x.size());
  kernels().gelu_mul_pack(x.data(), up.data(), static_cast<int>(x.size()), packed.data());
  for (size_t i = 0; i < x.size(); ++i) index[i] = static_cast<float>(i);
  kernels().pack_row(index.data(), static_cast<int>(x.size()), order.data());
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const float z = x[static_cast<size_t>(order[i])];
    const double expected = reference::gelu_tanh(double{z});
    // Far left the result is tiny and exp(-2 u) magnifies the rounding of u: absolute there.
    worst = std::max(worst, ulps(packed[i], expected, std::max(std::abs(expected), 1e-2)));
  }
  EXPECT_LT(worst, 12);
  RecordProperty("worst_ulps_times_100", static_cast<int>(worst * 100));
}

TEST(InstructionSetTest, InstructionSetsAgreeWithinRounding) {
  Random random(1);
  WeightMatrix w = random.weights(50, 1408, 0.05f);
  FloatMatrix x = random.floats(9, 1408);
  FloatMatrix expected(9, 50);
  cpu::make_cpu_ops({1, cpu::Isa::kPortable})->linear(x.view(), w.view(), expected.view());
  for (const cpu::Isa isa : {cpu::Isa::kAvx2, cpu::Isa::kAvx512}) {
    if (!cpu::is_supported(isa)) continue;
    FloatMatrix out(9, 50);
    cpu::make_cpu_ops({1, isa})->linear(x.view(), w.view(), out.view());
    EXPECT_LT(relative_error(out, expected.exact()), 2e-6) << cpu::isa_name(isa);
  }
}

TEST(InstructionSetTest, BestIsSupported) {
  EXPECT_TRUE(cpu::is_supported(cpu::resolve(cpu::Isa::kBest)));
  EXPECT_TRUE(cpu::is_supported(cpu::Isa::kPortable));
}

BERYL_INSTANTIATE_FOR_ISAS(MathTest);

}  // namespace
}  // namespace beryl::kernels
