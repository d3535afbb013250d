// What tests of the CUDA back end share: the device, tensors on it, and the CPU back end to compare
// with, fed with the same numbers rounded to bf16.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string_view>
#include <vector>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/hashed_weights.h"
#include "tests/kernels/test_util.h"

namespace beryl::kernels {

#if defined(BERYL_EMULATED_DEVICE)
constexpr bool kIsEmulated = true;
#else
constexpr bool kIsEmulated = false;
#endif

// Rounding of one bf16 number is 2^-9 of it; results are compared with the largest number of the
// tensor, most of whose errors are independent.
constexpr double kFloatTolerance = 2e-5;  // bf16 operands, float32 everywhere else
constexpr double kBf16Tolerance =
    4.5e-3;  // one rounding to bf16 at the end (2^-8, truncation incl.)
constexpr double kInnerTolerance = 8e-3;  // an inner tensor is bf16, and the result may be too

inline FloatMatrix rounded_to_bf16(FloatMatrix m) {
  for (float& value : m.data) value = bf16_to_float(round_to_bf16(value));
  return m;
}

// Memory of a back end, freed with the object. As float32 or bf16 from a host matrix.
class DeviceTensor {
 public:
  DeviceTensor(Ops& ops, DType dtype, int64_t num_rows, int64_t num_cols)
      : ops_(&ops), view_(nullptr, dtype, {num_rows, num_cols}) {
    view_.data = ops.allocate(view_.num_bytes());
  }
  DeviceTensor(Ops& ops, const FloatMatrix& m, DType dtype = DType::kFloat32)
      : DeviceTensor(ops, dtype, m.num_rows, m.num_cols) {
    if (dtype == DType::kFloat32) {
      ops.upload(view_.data, m.data.data(), view_.num_bytes());
      return;
    }
    std::vector<uint16_t> bits;
    for (const float value : m.data) bits.push_back(round_to_bf16(value));
    ops.upload(view_.data, bits.data(), view_.num_bytes());
  }
  DeviceTensor(Ops& ops, const WeightMatrix& m)
      : DeviceTensor(ops, DType::kBFloat16, m.num_rows, m.num_cols) {
    ops.upload(view_.data, m.data.data(), view_.num_bytes());
  }
  ~DeviceTensor() {
    if (view_.data != nullptr) ops_->free(view_.data);
  }
  DeviceTensor(DeviceTensor&& other) noexcept : ops_(other.ops_), view_(other.view_) {
    other.view_.data = nullptr;
  }
  DeviceTensor& operator=(DeviceTensor&&) = delete;

  const TensorView& view() const { return view_; }
  TensorView vector_view() const { return {view_.data, view_.dtype, {view_.num_elements()}}; }
  TensorView shaped(std::initializer_list<int64_t> dims) const {
    return {view_.data, view_.dtype, dims};
  }
  FloatMatrix floats() const {
    FloatMatrix m(view_.shape[0], view_.shape[1]);
    if (view_.dtype == DType::kFloat32) {
      ops_->download(m.data.data(), view_.data, view_.num_bytes());
      return m;
    }
    std::vector<uint16_t> bits(m.data.size());
    ops_->download(bits.data(), view_.data, view_.num_bytes());
    for (size_t i = 0; i < bits.size(); ++i) m.data[i] = bf16_to_float(bits[i]);
    return m;
  }

 private:
  Ops* ops_;
  TensorView view_;
};

// A plain array on the device.
template <typename T>
class DeviceArray {
 public:
  DeviceArray(Ops& ops, const std::vector<T>& values)
      : ops_(ops), size_(values.size()), data_(static_cast<T*>(ops.allocate(bytes() + 1))) {
    ops.upload(data_, values.data(), bytes());
  }
  ~DeviceArray() { ops_.free(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  std::vector<T> values() const {
    std::vector<T> result(size_);
    ops_.download(result.data(), data_, bytes());
    return result;
  }

 private:
  size_t bytes() const { return size_ * sizeof(T); }

  Ops& ops_;
  size_t size_;
  T* data_;
};

// BERYL_TEST_KERNEL_ARCH=sm_80: the kernels that every device runs, whatever this one is.
inline cuda::KernelArch test_kernel_arch() {
  const char* arch = std::getenv("BERYL_TEST_KERNEL_ARCH");
  const bool is_sm_80 = arch != nullptr && std::string_view(arch) == "sm_80";
  return is_sm_80 ? cuda::KernelArch::kSm80 : cuda::KernelArch::kBest;
}

// Skips with the reason where there is no device.
class CudaTest : public testing::Test {
 protected:
  void SetUp() override {
    const cuda::DeviceInfo info = cuda::query_device(0);
    if (!info.is_usable) GTEST_SKIP() << "no GPU to test on: " << info.problem;
    ops_ = cuda::make_cuda_ops({.kernel_arch = test_kernel_arch(), .without_cublas = kIsEmulated});
  }

  Ops& ops() { return *ops_; }
  Ops& cpu() { return *cpu_; }

  // Operations that compute with kernels of ours alone, on what every supported device has, and
  // attention with the generic kernel.
  std::unique_ptr<Ops> plain_ops() const {
    return cuda::make_cuda_ops(
        {.without_cublas = true, .with_generic_attention = true, .without_wgmma = true});
  }

  DeviceTensor on_device(const FloatMatrix& m, DType dtype = DType::kFloat32) {
    return DeviceTensor(ops(), m, dtype);
  }
  DeviceTensor on_device(const WeightMatrix& m) { return DeviceTensor(ops(), m); }
  DeviceTensor empty(DType dtype, int64_t num_rows, int64_t num_cols) {
    return DeviceTensor(ops(), dtype, num_rows, num_cols);
  }

 private:
  std::unique_ptr<Ops> cpu_ = cpu::make_cpu_ops({.num_threads = kIsEmulated ? 1 : 8});
  std::unique_ptr<Ops> ops_;
};

inline double relative_error(const FloatMatrix& actual, const FloatMatrix& expected) {
  return relative_error(actual, expected.exact());
}

}  // namespace beryl::kernels
