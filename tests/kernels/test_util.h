// Random tensors that own their memory, and comparisons.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_ops.h"
#include "tests/reference/ops_reference.h"

namespace beryl::kernels {

inline float bf16_to_float(uint16_t value) {
  return std::bit_cast<float>(uint32_t{value} << 16);
}
// Truncates: random test weights need no rounding.
inline uint16_t float_to_bf16(float value) {
  return static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
}

// A float32 matrix.
struct FloatMatrix {
  int64_t num_rows = 0;
  int64_t num_cols = 0;
  std::vector<float> data;

  FloatMatrix() = default;
  FloatMatrix(int64_t rows, int64_t cols)
      : num_rows(rows), num_cols(cols), data(static_cast<size_t>(rows * cols)) {}

  TensorView view() { return {data.data(), DType::kFloat32, {num_rows, num_cols}}; }
  float* row(int64_t r) { return data.data() + r * num_cols; }
  const float* row(int64_t r) const { return data.data() + r * num_cols; }
  FloatMatrix rows(int64_t begin, int64_t end) const {
    FloatMatrix part(end - begin, num_cols);
    std::copy(row(begin), row(begin) + part.num_rows * num_cols, part.data.begin());
    return part;
  }
  reference::Matrix exact() const {
    reference::Matrix m(num_rows, num_cols);
    m.data.assign(data.begin(), data.end());
    return m;
  }
};

// A bfloat16 weight matrix.
struct WeightMatrix {
  int64_t num_rows = 0;
  int64_t num_cols = 0;
  std::vector<uint16_t> data;

  TensorView view() { return {data.data(), DType::kBFloat16, {num_rows, num_cols}}; }
  TensorView vector_view() { return {data.data(), DType::kBFloat16, {num_rows * num_cols}}; }
  reference::Matrix exact() const {
    reference::Matrix m(num_rows, num_cols);
    for (size_t i = 0; i < data.size(); ++i) m.data[i] = bf16_to_float(data[i]);
    return m;
  }
};

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}

  float normal() { return distribution_(engine_); }
  int below(int limit) { return static_cast<int>(engine_() % static_cast<uint32_t>(limit)); }

  std::vector<float> logits(size_t count, float scale) {
    std::vector<float> values(count);
    for (float& value : values) value = normal() * scale;
    return values;
  }
  FloatMatrix floats(int64_t rows, int64_t cols) {
    FloatMatrix m(rows, cols);
    for (float& value : m.data) value = normal();
    return m;
  }
  WeightMatrix weights(int64_t rows, int64_t cols, float scale) {
    WeightMatrix m{rows, cols, std::vector<uint16_t>(static_cast<size_t>(rows * cols))};
    for (uint16_t& value : m.data) value = float_to_bf16(normal() * scale);
    return m;
  }
  // Norm weights: positive, around 1.
  WeightMatrix gains(int64_t n) {
    WeightMatrix m = weights(1, n, 0.2f);
    for (uint16_t& value : m.data) value = float_to_bf16(1 + bf16_to_float(value));
    return m;
  }

 private:
  std::mt19937 engine_;
  std::normal_distribution<float> distribution_;
};

inline bool same_bits(const FloatMatrix& a, const FloatMatrix& b) {
  return a.data.size() == b.data.size() &&
         (a.data.empty() ||
          std::memcmp(a.data.data(), b.data.data(), a.data.size() * sizeof(float)) == 0);
}

// Largest |actual - expected| over the largest |expected|.
inline double relative_error(const FloatMatrix& actual, const reference::Matrix& expected) {
  EXPECT_EQ(actual.data.size(), expected.data.size());
  double error = 0;
  double size = 1e-30;
  for (size_t i = 0; i < actual.data.size(); ++i) {
    error = std::max(error, std::abs(actual.data[i] - expected.data[i]));
    size = std::max(size, std::abs(expected.data[i]));
    if (std::isnan(actual.data[i])) return INFINITY;
  }
  return error / size;
}

// Each test runs once per instruction set; what this CPU lacks is skipped and says so.
class IsaTest : public testing::TestWithParam<cpu::Isa> {
 protected:
  void SetUp() override {
    if (!cpu::is_supported(GetParam())) {
      GTEST_SKIP() << "this CPU has no " << cpu::isa_name(GetParam());
    }
  }
  static std::unique_ptr<Ops> make_ops(int num_threads = 1) {
    return cpu::make_cpu_ops({.num_threads = num_threads, .isa = GetParam()});
  }
};

inline auto all_isas() {
  return testing::Values(cpu::Isa::kPortable, cpu::Isa::kAvx2, cpu::Isa::kAvx512);
}
inline std::string isa_test_name(const testing::TestParamInfo<cpu::Isa>& info) {
  return cpu::isa_name(info.param);
}

#define BERYL_INSTANTIATE_FOR_ISAS(suite) \
  INSTANTIATE_TEST_SUITE_P(Isa, suite, all_isas(), isa_test_name)

}  // namespace beryl::kernels
