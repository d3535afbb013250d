#include "bench/kernels/device_tensors.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>

namespace beryl::bench {

using kernels::DType;
using kernels::TensorView;

DeviceTensors::~DeviceTensors() {
  for (void* memory : memory_) ops_.free(memory);
}

TensorView DeviceTensors::zeros(DType dtype, std::initializer_list<int64_t> dims) {
  TensorView view(nullptr, dtype, dims);
  view.data = ops_.allocate(view.num_bytes());
  memory_.push_back(view.data);
  return view;
}

TensorView DeviceTensors::random(std::initializer_list<int64_t> dims, float scale, float offset) {
  const TensorView view = zeros(DType::kBFloat16, dims);
  const kernels::HashedTensor tensor = {kernels::hash_mix(next_key_++), offset, scale};
  ops_.fill_hashed(tensor, 0, view.as<uint16_t>(), static_cast<size_t>(view.num_elements()));
  return view;
}

TensorView DeviceTensors::random_rows(int64_t num_rows, int64_t width) {
  const TensorView view = zeros(DType::kFloat32, {num_rows, width});
  std::mt19937 engine(static_cast<uint32_t>(next_key_++));
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(view.num_elements()));
  for (float& value : values) value = normal(engine);
  ops_.upload(view.data, values.data(), view.num_bytes());
  return view;
}

const int32_t* DeviceTensors::ints(const std::vector<int32_t>& values) {
  const TensorView view =
      zeros(DType::kInt32, {static_cast<int64_t>(std::max<size_t>(values.size(), 1))});
  ops_.upload(view.data, values.data(), values.size() * sizeof(int32_t));
  return view.as<const int32_t>();
}

std::vector<float> DeviceTensors::floats(const TensorView& tensor) const {
  std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
  if (tensor.dtype != DType::kBFloat16) {
    ops_.download(values.data(), tensor.data, tensor.num_bytes());
    return values;
  }
  std::vector<uint16_t> halves(values.size());
  ops_.download(halves.data(), tensor.data, tensor.num_bytes());
  std::transform(halves.begin(), halves.end(), values.begin(),
                 [](uint16_t half) { return std::bit_cast<float>(uint32_t{half} << 16); });
  return values;
}

double relative_difference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double difference = 0;
  double size = 1e-30;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) || std::isnan(b[i])) return std::numeric_limits<double>::infinity();
    difference = std::max(difference, std::abs(static_cast<double>(a[i]) - b[i]));
    size = std::max(size, std::abs(static_cast<double>(b[i])));
  }
  return difference / size;
}

}  // namespace beryl::bench
