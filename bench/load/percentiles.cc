#include "bench/load/percentiles.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace beryl::load {

double Percentiles::at(double q) const {
  if (samples_.empty()) return 0;
  std::vector<double> sorted = samples_;
  const auto last = static_cast<double>(sorted.size() - 1);
  const auto rank = static_cast<size_t>(std::clamp(std::ceil(q * (last + 1)) - 1, 0.0, last));
  std::nth_element(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(rank),
                   sorted.end());
  return sorted[rank];
}

double Percentiles::mean() const {
  if (samples_.empty()) return 0;
  return std::accumulate(samples_.begin(), samples_.end(), 0.0) /
         static_cast<double>(samples_.size());
}

double Percentiles::stddev() const {
  if (samples_.empty()) return 0;
  const double centre = mean();
  double sum = 0;
  for (const double value : samples_) sum += (value - centre) * (value - centre);
  return std::sqrt(sum / static_cast<double>(samples_.size()));
}

}  // namespace beryl::load
