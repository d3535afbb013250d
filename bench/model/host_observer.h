// HostObserver: hands an observer copies in host memory of what a decoder on a device shows.
#pragma once

#include <vector>

#include "kernels/ops.h"
#include "worker/model/decoder.h"

namespace beryl::bench {

class HostObserver final : public model::LayerObserver {
 public:
  // Both must outlive it. Tensors become float32 (int32 stays) and are valid during a call.
  HostObserver(kernels::Ops& ops, model::LayerObserver& observer)
      : ops_(ops), observer_(observer) {}

  void on_hidden(int stage, const kernels::TensorView& hidden) override {
    observer_.on_hidden(stage, copy(hidden, first_));
  }
  void on_routing(int layer, const kernels::TensorView& topk_idx,
                  const kernels::TensorView& topk_weights) override {
    observer_.on_routing(layer, copy(topk_idx, first_), copy(topk_weights, second_));
  }
  void on_final_norm(const kernels::TensorView& normed) override {
    observer_.on_final_norm(copy(normed, first_));
  }

 private:
  kernels::TensorView copy(const kernels::TensorView& tensor, std::vector<uint32_t>& memory);

  kernels::Ops& ops_;
  model::LayerObserver& observer_;
  std::vector<uint32_t> first_;
  std::vector<uint32_t> second_;
};

}  // namespace beryl::bench
