// The wrappers of kernels/cuda/hopper.cuh, one product at a time.
#include "tests/kernels/cuda/device_test.h"
#include "tests/kernels/cuda/hopper_probe.h"

namespace beryl::kernels {
namespace {

using cuda::HopperProbe;
using cuda::kProbeDepth;
using cuda::kProbeRows;

class HopperTest : public CudaTest {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
    if (IsSkipped()) return;
    const cuda::DeviceInfo info = cuda::query_device(0);
    if (info.compute_major != 9) GTEST_SKIP() << info.name << " has no wgmma";
  }

  double error_of(HopperProbe probe) {
    Random random(1);
    const int64_t cols = probe.num_cols;
    const FloatMatrix a = rounded_to_bf16(random.floats(kProbeRows, kProbeDepth));
    const FloatMatrix b = rounded_to_bf16(probe.b_is_transposed ? random.floats(kProbeDepth, cols)
                                                                : random.floats(cols, kProbeDepth));
    FloatMatrix expected(kProbeRows, cols);
    for (int64_t row = 0; row < kProbeRows; ++row) {
      for (int64_t col = 0; col < cols; ++col) {
        double sum = 0;
        for (int64_t k = 0; k < kProbeDepth; ++k) {
          const int64_t at = probe.b_is_transposed ? k * cols + col : col * kProbeDepth + k;
          sum += double{a.data[static_cast<size_t>(row * kProbeDepth + k)]} *
                 double{b.data[static_cast<size_t>(at)]};
        }
        expected.data[static_cast<size_t>(row * cols + col)] =
            static_cast<float>(probe.num_rounds * sum);
      }
    }
    const DeviceTensor device_a = on_device(a, DType::kBFloat16);
    const DeviceTensor device_b = on_device(b, DType::kBFloat16);
    const DeviceTensor out = empty(DType::kFloat32, kProbeRows, cols);
    ops().download(nullptr, nullptr, 0);  // another stream must see what was uploaded
    probe.a = device_a.view().bf16();
    probe.b = device_b.view().bf16();
    probe.out = out.view().f32();
    EXPECT_EQ(cuda::launch_hopper_probe(probe, nullptr), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(nullptr), cudaSuccess);
    return relative_error(out.floats(), expected);
  }
};

TEST_F(HopperTest, EveryKindOfOperandAgrees) {
  for (const int num_cols : {8, 64, 72, 256}) {
    for (const bool a_is_in_registers : {false, true}) {
      for (const bool b_is_transposed : {false, true}) {
        for (const bool uses_tensor_copies : {false, true}) {
          if (b_is_transposed && num_cols % 64 != 0) continue;  // blocks of 64 columns
          EXPECT_LT(error_of({.a_is_in_registers = a_is_in_registers,
                              .b_is_transposed = b_is_transposed,
                              .uses_tensor_copies = uses_tensor_copies,
                              .num_cols = num_cols}),
                    kFloatTolerance)
              << num_cols << " columns, a in registers " << a_is_in_registers << ", b transposed "
              << b_is_transposed << ", tensor copies " << uses_tensor_copies;
        }
      }
    }
  }
}

// The control: a kernel that does not wait for a tensor copy. A GPU may be lucky.
TEST_F(HopperTest, EmulationSeesAMissingWait) {
  if (!kIsEmulated) GTEST_SKIP() << "on a GPU a missing wait is a race, which may be won";
  EXPECT_FALSE(
      error_of(
          {.uses_tensor_copies = true, .skips_a_wait = true, .num_rounds = 1, .num_cols = 64}) <
      kFloatTolerance);
}

}  // namespace
}  // namespace beryl::kernels
