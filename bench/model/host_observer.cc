#include "bench/model/host_observer.h"

#include <algorithm>

namespace beryl::bench {

using kernels::DType;
using kernels::TensorView;

TensorView HostObserver::copy(const TensorView& tensor, std::vector<uint32_t>& memory) {
  const auto count = static_cast<size_t>(tensor.num_elements());
  memory.resize(std::max<size_t>(count, 1));
  TensorView view = tensor;
  view.data = memory.data();
  if (tensor.dtype != DType::kBFloat16) {
    ops_.download(memory.data(), tensor.data, tensor.num_bytes());
    return view;
  }
  std::vector<uint16_t> halves(count);
  ops_.download(halves.data(), tensor.data, tensor.num_bytes());
  std::transform(halves.begin(), halves.end(), memory.begin(),
                 [](uint16_t half) { return uint32_t{half} << 16; });
  view.dtype = DType::kFloat32;
  return view;
}

}  // namespace beryl::bench
