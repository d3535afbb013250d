// StepKey: what the launches of one step depend on besides what memory holds. Two steps with equal
// keys launch the same kernels with the same arguments.
#pragma once

#include <compare>
#include <cstdint>

namespace beryl::kernels {

struct StepKey {
  uint64_t owner = 0;            // whose memory the launches use: a number that no two owners share
  const void* arrays = nullptr;  // where the arrays of the batch begin
  int num_rows = 0;              // T
  int num_segments = 0;          // S
  int max_segment_rows = 0;      // rows of the longest segment
  int num_selected = 0;          // rows whose logits are wanted
  bool has_visible_end = false;
  int32_t max_position = 0;  // what attention is planned for: at least every position that is seen

  auto operator<=>(const StepKey&) const = default;
};

}  // namespace beryl::kernels
