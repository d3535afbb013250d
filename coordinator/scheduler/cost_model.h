// How long a step takes: base + slope * rows of its busiest rank, fitted to measured steps by least
// squares with exponential forgetting. Ranks run in lockstep, so the busiest one sets the pace.
#pragma once

#include <cstdint>

namespace beryl::scheduler {

class CostModel {
 public:
  // Durations that no step can have (broken clocks) are ignored.
  void observe(uint32_t num_rows, int64_t duration_us);
  // Rows that a step of the busiest rank may carry to stay within `target_us`; at most `limit`.
  // May be 0: the caller decides on the least progress.
  uint32_t rows_within(int64_t target_us, uint32_t limit) const;

 private:
  static constexpr uint32_t kUnmeasuredRows = 256;  // before the first step
  static constexpr double kForget = 0.98;           // per step: about the last 50 steps count
  static constexpr double kMinVariance = 16;        // rows^2; below, the slope is noise
  static constexpr int64_t kLongestStepUs = 600'000'000;

  double weight_ = 0;
  double sum_rows_ = 0;
  double sum_us_ = 0;
  double sum_rows_rows_ = 0;
  double sum_rows_us_ = 0;
  // Outlives a long time of equal steps, in which the sums forget what prompt tokens cost.
  bool has_slope_ = false;
  double slope_ = 0;  // us per row
};

}  // namespace beryl::scheduler
