// What one request saw on its way through the decoder, bit for bit, and where two ways part.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bench/model/rank_runner.h"
#include "worker/model/decoder.h"

namespace beryl::bench {

// One position of the traced request.
struct PositionTrace {
  std::vector<std::vector<float>> hidden;  // [layers + 1], 0 = embedding
  std::vector<std::vector<int32_t>> topk_idx;
  std::vector<std::vector<float>> topk_weights;
  std::vector<float> logits;
};

using Trace = std::map<int, PositionTrace>;  // by position

// Records the rows of one request.
class TraceObserver final : public model::LayerObserver {
 public:
  TraceObserver(const RankRunner& runner, int request_id, Trace* trace)
      : runner_(runner), request_id_(request_id), trace_(*trace) {}

  void on_hidden(int stage, const kernels::TensorView& hidden) override;
  void on_routing(int layer, const kernels::TensorView& topk_idx,
                  const kernels::TensorView& topk_weights) override;
  void on_final_norm(const kernels::TensorView&) override {}

 private:
  template <typename Visit>
  void for_each_row(Visit visit) {
    for (size_t row = 0; row < runner_.rows().size(); ++row) {
      const RowPlace& place = runner_.rows()[row];
      if (place.request_id == request_id_) visit(row, &trace_[place.position]);
    }
  }

  const RankRunner& runner_;
  const int request_id_;
  Trace& trace_;
};

// Nothing where both are equal bit for bit; otherwise the earliest layer that differs and the first
// position where it does: "layer 3, position 17: hidden[5] 0.25 and 0.2500001".
std::optional<std::string> first_difference(const Trace& expected, const Trace& found);

}  // namespace beryl::bench
