// Operations on single rows against the CPU back end.
#include "tests/kernels/cuda/device_test.h"

namespace beryl::kernels {
namespace {

constexpr float kEps = 1e-6f;

class CudaRowsTest : public CudaTest {
 protected:
  static std::vector<int64_t> row_counts() {
    return kIsEmulated ? std::vector<int64_t>{0, 1, 3} : std::vector<int64_t>{0, 1, 3, 65, 1025};
  }
};

TEST_F(CudaRowsTest, EmbeddingsAreScaledTableRows) {
  Random random(1);
  WeightMatrix table = random.weights(50, 2816, 1);
  const DeviceTensor device_table = on_device(table);
  const std::vector<int32_t> ids = {49, 0, 7, 7};
  const DeviceArray<int32_t> device_ids(ops(), ids);
  FloatMatrix expected(4, 2816);
  cpu().embed(table.view(), ids.data(), 53, expected.view());
  const DeviceTensor out = empty(DType::kFloat32, 4, 2816);
  ops().embed(device_table.view(), device_ids.data(), 53, out.view());
  EXPECT_TRUE(same_bits(out.floats(), expected));
}

TEST_F(CudaRowsTest, NormsAgree) {
  Random random(2);
  for (const int64_t width : {72, 2816}) {
    WeightMatrix gains = random.gains(width);
    const DeviceTensor device_gains = on_device(gains);
    for (const int64_t rows : row_counts()) {
      FloatMatrix x = random.floats(rows, width);
      const DeviceTensor device_x = on_device(x);
      for (const bool has_weight : {true, false}) {
        const TensorView weight = has_weight ? gains.vector_view() : TensorView{};
        const TensorView device_weight = has_weight ? device_gains.vector_view() : TensorView{};
        FloatMatrix expected(rows, width);
        cpu().rms_norm(x.view(), weight, kEps, expected.view());
        const DeviceTensor floats = empty(DType::kFloat32, rows, width);
        ops().rms_norm(device_x.view(), device_weight, kEps, floats.view());
        EXPECT_LT(relative_error(floats.floats(), expected), 1e-6) << rows << " x " << width;
        const DeviceTensor halves = empty(DType::kBFloat16, rows, width);
        ops().rms_norm(device_x.view(), device_weight, kEps, halves.view());
        EXPECT_LT(relative_error(halves.floats(), expected), kBf16Tolerance);
      }
      FloatMatrix residual = random.floats(rows, width);
      const DeviceTensor device_residual = on_device(residual);
      ops().add_rms_norm(device_x.view(), device_gains.vector_view(), kEps, device_residual.view());
      cpu().add_rms_norm(x.view(), gains.vector_view(), kEps, residual.view());
      EXPECT_LT(relative_error(device_residual.floats(), residual), 1e-6);
    }
  }
}

// The control: the comparison sees one row normed with the weights of its neighbour.
TEST_F(CudaRowsTest, ComparisonSeesAShiftedWeight) {
  Random random(3);
  WeightMatrix gains = random.gains(256);
  FloatMatrix x = random.floats(2, 256);
  FloatMatrix expected(2, 256);
  cpu().rms_norm(x.view(), gains.vector_view(), kEps, expected.view());
  std::rotate(gains.data.begin(), gains.data.begin() + 1, gains.data.end());
  const DeviceTensor weight = on_device(gains);
  const DeviceTensor out = empty(DType::kBFloat16, 2, 256);
  ops().rms_norm(on_device(x).view(), weight.vector_view(), kEps, out.view());
  EXPECT_GT(relative_error(out.floats(), expected), 10 * kBf16Tolerance);
}

TEST_F(CudaRowsTest, MergesAgree) {
  Random random(4);
  for (const int64_t rows : row_counts()) {
    constexpr int64_t kWidth = 2816;
    WeightMatrix gains[3] = {random.gains(kWidth), random.gains(kWidth), random.gains(kWidth)};
    FloatMatrix dense = random.floats(rows, kWidth);
    FloatMatrix experts = random.floats(rows, kWidth);
    FloatMatrix residual = random.floats(rows, kWidth);
    const DeviceTensor device_residual = on_device(residual);
    cpu().merge_ffn(
        {gains[0].vector_view(), gains[1].vector_view(), gains[2].vector_view(), 0.4375f},
        dense.view(), experts.view(), kEps, residual.view());
    const DeviceTensor weights[3] = {on_device(gains[0]), on_device(gains[1]), on_device(gains[2])};
    ops().merge_ffn(
        {weights[0].vector_view(), weights[1].vector_view(), weights[2].vector_view(), 0.4375f},
        on_device(dense).view(), on_device(experts).view(), kEps, device_residual.view());
    EXPECT_LT(relative_error(device_residual.floats(), residual), 2e-6) << rows;
  }
}

// Operations that do several things at once, against the CPU back end, which does them in sequence.
class CudaFusedRowsTest : public CudaRowsTest {
 protected:
  static constexpr int64_t kWidth = 2816;

  // More rows, so that threads hold more than one vector.
  static std::vector<int64_t> row_counts() {
    return kIsEmulated ? std::vector<int64_t>{0, 1, 3, 97, 265}
                       : std::vector<int64_t>{0, 1, 3, 65, 97, 264, 265, 1025};
  }
  struct Norms {
    std::vector<FloatMatrix> expected;
    std::vector<DeviceTensor> actual;
  };
  // Room for two norms; empty() is what device operations write.
  Norms make_norms(int64_t rows) {
    Norms norms;
    for (int i = 0; i < 2; ++i) {
      norms.expected.emplace_back(rows, kWidth);
      norms.actual.push_back(empty(DType::kBFloat16, rows, kWidth));
    }
    return norms;
  }
  static void expect_equal(const Norms& norms, int64_t rows) {
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_LT(relative_error(norms.actual[i].floats(), norms.expected[i]), kBf16Tolerance)
          << "norm " << i << ", " << rows << " rows";
    }
  }
};

TEST_F(CudaFusedRowsTest, AddedNormsAgree) {
  Random random(6);
  WeightMatrix gains[3] = {random.gains(kWidth), random.gains(kWidth), random.gains(kWidth)};
  const DeviceTensor weights[3] = {on_device(gains[0]), on_device(gains[1]), on_device(gains[2])};
  for (const int64_t rows : row_counts()) {
    FloatMatrix x = random.floats(rows, kWidth);
    FloatMatrix residual = random.floats(rows, kWidth);
    const DeviceTensor device_residual = on_device(residual);
    Norms norms = make_norms(rows);
    const NormOutput expected[] = {{gains[1].vector_view(), norms.expected[0].view()},
                                   {gains[2].vector_view(), norms.expected[1].view()}};
    cpu().add_rms_norm_then(x.view(), gains[0].vector_view(), kEps, residual.view(), expected);
    const NormOutput actual[] = {{weights[1].vector_view(), norms.actual[0].view()},
                                 {weights[2].vector_view(), norms.actual[1].view()}};
    ops().add_rms_norm_then(on_device(x).view(), weights[0].vector_view(), kEps,
                            device_residual.view(), actual);
    EXPECT_LT(relative_error(device_residual.floats(), residual), 1e-6) << rows;
    expect_equal(norms, rows);
  }
}

TEST_F(CudaFusedRowsTest, SummedMergesAgree) {
  Random random(7);
  std::vector<WeightMatrix> gains;
  std::vector<DeviceTensor> weights;
  for (int i = 0; i < 5; ++i) {
    gains.push_back(random.gains(kWidth));
    weights.push_back(on_device(gains.back()));
  }
  const FfnMergeWeights host = {gains[0].vector_view(), gains[1].vector_view(),
                                gains[2].vector_view(), 0.4375f};
  const FfnMergeWeights device = {weights[0].vector_view(), weights[1].vector_view(),
                                  weights[2].vector_view(), 0.4375f};
  // Leaves that the kernel sums itself, and more than it has room for.
  for (const int leaves : {1, 3, 8, 9}) {
    for (const int64_t rows : row_counts()) {
      if (kIsEmulated && rows > 3 && leaves != 8) continue;
      std::vector<int32_t> offsets = {0};
      std::vector<int32_t> leaf_rows;
      std::vector<int32_t> keys;
      for (int64_t row = 0; row < rows; ++row) {
        for (int leaf = 0; leaf < leaves; ++leaf) {
          leaf_rows.push_back(random.below(6) == 0 ? -1 : random.below(40));
          keys.push_back(leaf * 13 + random.below(13));
        }
        offsets.push_back(static_cast<int32_t>(leaf_rows.size()));
      }
      FloatMatrix results = random.floats(40, kWidth);
      FloatMatrix dense = random.floats(rows, kWidth);
      FloatMatrix residual = random.floats(rows, kWidth);
      FloatMatrix sums(rows, kWidth);
      const DeviceTensor device_residual = on_device(residual);
      Norms norms = make_norms(rows);
      const NormOutput expected[] = {{gains[3].vector_view(), norms.expected[0].view()},
                                     {gains[4].vector_view(), norms.expected[1].view()}};
      const auto count = static_cast<int>(rows);
      cpu().sum_and_merge_ffn(host, dense.view(),
                              {results.view(),
                               {count, offsets.data(), leaf_rows.data(), keys.data(), leaves},
                               sums.view()},
                              kEps, residual.view(), expected);
      const DeviceArray<int32_t> device_offsets(ops(), offsets);
      const DeviceArray<int32_t> device_rows(ops(), leaf_rows);
      const DeviceArray<int32_t> device_keys(ops(), keys);
      const DeviceTensor device_sums = empty(DType::kFloat32, rows, kWidth);
      const NormOutput actual[] = {{weights[3].vector_view(), norms.actual[0].view()},
                                   {weights[4].vector_view(), norms.actual[1].view()}};
      ops().sum_and_merge_ffn(
          device, on_device(dense).view(),
          {on_device(results).view(),
           {count, device_offsets.data(), device_rows.data(), device_keys.data(), leaves},
           device_sums.view()},
          kEps, device_residual.view(), actual);
      EXPECT_LT(relative_error(device_residual.floats(), residual), 2e-6)
          << rows << " rows, " << leaves << " leaves";
      expect_equal(norms, rows);
    }
  }
}

// Bit for bit: the tree is the same, and float32 sums of two are exact in both.
TEST_F(CudaRowsTest, TreeSumsAreThoseOfTheCpu) {
  Random random(5);
  for (const int64_t width : {8, 2816}) {
    std::vector<int32_t> offsets = {0};
    std::vector<int32_t> rows;
    std::vector<int32_t> keys;
    const std::vector<std::vector<int32_t>> leaves = {
        {}, {5}, {0, 1, 2, 3, 64, 65, 126, 127}, {3, 9, 127}, {1, 2}, {0, 64}};
    for (const auto& row : leaves) {
      for (const int32_t key : row) {
        rows.push_back(random.below(10) == 0 ? -1 : random.below(40));
        keys.push_back(key);
      }
      offsets.push_back(static_cast<int32_t>(rows.size()));
    }
    FloatMatrix in = random.floats(40, width);
    FloatMatrix expected(static_cast<int64_t>(leaves.size()), width);
    const int count = static_cast<int>(leaves.size());
    cpu().tree_sum(in.view(), {count, offsets.data(), rows.data(), keys.data()}, expected.view());
    const DeviceArray<int32_t> device_offsets(ops(), offsets);
    const DeviceArray<int32_t> device_rows(ops(), rows);
    const DeviceArray<int32_t> device_keys(ops(), keys);
    const DeviceTensor out = empty(DType::kFloat32, count, width);
    ops().tree_sum(on_device(in).view(),
                   {count, device_offsets.data(), device_rows.data(), device_keys.data()},
                   out.view());
    EXPECT_TRUE(same_bits(out.floats(), expected));
  }
}

}  // namespace
}  // namespace beryl::kernels
