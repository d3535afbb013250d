// A device or a clear reason; memory; weights made on the device.
#include "tests/kernels/cuda/device_test.h"

#include <numeric>

#include "kernels/device_error.h"
#if defined(BERYL_EMULATED_DEVICE)
#include <cuda_runtime_api.h>

namespace beryl::emulation {
void plant_error(cudaError_t error);  // tests/kernels/cuda/emulation/device.h
}
#endif

namespace beryl::kernels {
namespace {

// Runs everywhere: with a GPU it is usable, without one the reason is told and nothing hangs.
TEST(DeviceTest, IsUsableOrSaysWhyNot) {
  const cuda::DeviceInfo info = cuda::query_device(0);
  if (info.is_usable) {
    EXPECT_FALSE(info.name.empty());
    EXPECT_GT(info.num_sms, 0);
    EXPECT_GT(info.free_bytes, 0U);
    EXPECT_NO_THROW((void)cuda::make_cuda_ops({.without_cublas = kIsEmulated}));
    return;
  }
  EXPECT_NE(info.problem.find("needs"), std::string::npos) << info.problem;
  try {
    (void)cuda::make_cuda_ops({});
    FAIL() << "made operations without a device";
  } catch (const DeviceError& error) {
    EXPECT_NE(std::string(error.what()).find(info.problem), std::string::npos) << error.what();
  }
}

TEST(DeviceTest, ADeviceThatDoesNotExistIsRefused) {
  EXPECT_FALSE(cuda::query_device(1000).is_usable);
  EXPECT_THROW((void)cuda::make_cuda_ops({.device = 1000}), DeviceError);
}

#if defined(BERYL_EMULATED_DEVICE)
class PlantedErrorTest : public CudaTest {
 protected:
  void TearDown() override { emulation::plant_error(cudaSuccess); }

  template <typename Work>
  static std::string error_of(const Work& work) {
    try {
      work();
    } catch (const DeviceError& error) {
      return error.what();
    }
    return "no error";
  }
};

// What a kernel did shows at the next copy, and whoever waits hears of it.
TEST_F(PlantedErrorTest, AFaultOfAKernelIsADeviceError) {
  const DeviceTensor tensor = empty(DType::kFloat32, 3, 1000);
  EXPECT_EQ(error_of([&] { (void)tensor.floats(); }), "no error");
  emulation::plant_error(cudaErrorIllegalAddress);
  for (int i = 0; i < 2; ++i) {
    EXPECT_NE(error_of([&] { (void)tensor.floats(); }).find("cudaErrorIllegalAddress"),
              std::string::npos);
  }
}

TEST_F(PlantedErrorTest, ABuildWithoutCodeForTheDeviceSaysWhatToDo) {
  emulation::plant_error(cudaErrorNoKernelImageForDevice);
  const std::string said = error_of([] { (void)cuda::make_cuda_ops({.without_cublas = true}); });
  EXPECT_NE(said.find("no code for emulated device"), std::string::npos) << said;
  EXPECT_NE(said.find("CMAKE_CUDA_ARCHITECTURES=90"), std::string::npos) << said;
}
#endif

// Chosen by the options, not by the device: what plans look at is what sm_80 has.
TEST(DeviceTest, KernelsOfSm80AreChosenOnANewerDevice) {
  cuda::DeviceInfo newer;
  newer.compute_major = 9;
  newer.max_shared_bytes = 227 << 10;
  const cuda::DeviceInfo capped = cuda::as_sm_80(newer);
  EXPECT_EQ(capped.compute_major, 8);
  EXPECT_EQ(capped.max_shared_bytes, 163 << 10);
}

class MemoryTest : public CudaTest {};

TEST_F(MemoryTest, BytesComeBackAsTheyWereSent) {
  // More than all pinned buffers together, so that they are used again.
  std::vector<uint32_t> sent(36 << 20);
  std::iota(sent.begin(), sent.end(), 0U);
  const DeviceArray<uint32_t> array(ops(), sent);
  EXPECT_EQ(array.values(), sent);
}

TEST_F(MemoryTest, NewMemoryIsZero) {
  const DeviceTensor tensor = empty(DType::kFloat32, 3, 1000);
  for (const float value : tensor.floats().data) ASSERT_EQ(value, 0);
}

TEST_F(MemoryTest, HashedWeightsAreThoseOfTheHost) {
  const HashedTensor tensor = {0x123456789abcdef, 0.25f, 0.0326f};
  for (const uint64_t first : {uint64_t{0}, uint64_t{1} << 33, uint64_t{12345}}) {
    const size_t count = kIsEmulated ? 5000 : 3'000'001;
    const DeviceArray<uint16_t> made(ops(), std::vector<uint16_t>(count));
    ops().fill_hashed(tensor, first, made.data(), count);
    const std::vector<uint16_t> values = made.values();
    for (size_t i = 0; i < count; ++i) ASSERT_EQ(values[i], hashed_weight(tensor, first + i)) << i;
  }
}

}  // namespace
}  // namespace beryl::kernels
