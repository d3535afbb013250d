#include "coordinator/scheduler/cost_model.h"

#include <algorithm>

namespace beryl::scheduler {

void CostModel::observe(uint32_t num_rows, int64_t duration_us) {
  if (duration_us <= 0 || duration_us > kLongestStepUs) return;
  const double rows = num_rows;
  const double us = static_cast<double>(duration_us);
  weight_ = kForget * weight_ + 1;
  sum_rows_ = kForget * sum_rows_ + rows;
  sum_us_ = kForget * sum_us_ + us;
  sum_rows_rows_ = kForget * sum_rows_rows_ + rows * rows;
  sum_rows_us_ = kForget * sum_rows_us_ + rows * us;

  const double mean_rows = sum_rows_ / weight_;
  const double variance = sum_rows_rows_ / weight_ - mean_rows * mean_rows;
  if (variance < kMinVariance) return;
  const double covariance = sum_rows_us_ / weight_ - mean_rows * (sum_us_ / weight_);
  slope_ = std::max(0.0, covariance / variance);
  has_slope_ = true;
}

uint32_t CostModel::rows_within(int64_t target_us, uint32_t limit) const {
  if (weight_ == 0) return std::min(limit, kUnmeasuredRows);
  const double mean_rows = std::max(sum_rows_ / weight_, 1.0);
  const double mean_us = sum_us_ / weight_;
  // The most a row can cost is its share of a step without base: the guess until more is known.
  // It makes small prompt chunks, and those teach the slope.
  const double slope = has_slope_ ? std::min(slope_, mean_us / mean_rows) : mean_us / mean_rows;
  const double base = mean_us - slope * mean_rows;
  const double room_us = static_cast<double>(target_us) - base;
  if (room_us <= 0) return 0;
  if (slope * limit <= room_us) return limit;
  return static_cast<uint32_t>(room_us / slope);
}

}  // namespace beryl::scheduler
