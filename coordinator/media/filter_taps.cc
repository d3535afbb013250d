#include "coordinator/media/filter_taps.h"

#include <algorithm>
#include <cmath>

namespace beryl::media {
namespace {

constexpr int kMaxPrecision = 22;         // with it a sum of 8-bit pixels fits into 32 bits
constexpr double kMaxWeight = 1U << 15U;  // weights are 16 bits wide
constexpr double kKernelRadius = 2.0;

double cubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

// The largest scale that keeps every weight within 16 bits.
int precision_for(double max_weight) {
  int precision = 0;
  while (precision < kMaxPrecision &&
         std::floor(0.5 + max_weight * static_cast<double>(1U << (precision + 1))) < kMaxWeight) {
    ++precision;
  }
  return precision;
}

}  // namespace

FilterTaps make_bicubic_taps(uint32_t in, uint32_t out) {
  const double scale = static_cast<double>(in) / out;
  const double stretch = std::max(scale, 1.0);
  const double radius = kKernelRadius * stretch;
  const double inverse_stretch = 1.0 / stretch;
  FilterTaps taps;
  taps.max_count = static_cast<uint32_t>(std::ceil(radius)) * 2 + 1;
  taps.first.resize(out);
  taps.count.resize(out);
  std::vector<double> weights(size_t{out} * taps.max_count);
  double max_weight = 0;
  for (uint32_t o = 0; o < out; ++o) {
    const double centre = (o + 0.5) * scale;
    const auto first = std::max<int64_t>(static_cast<int64_t>(centre - radius + 0.5), 0);
    const auto end = std::min<int64_t>(static_cast<int64_t>(centre + radius + 0.5), in);
    taps.first[o] = static_cast<uint32_t>(first);
    taps.count[o] = static_cast<uint32_t>(end - first);
    double* const row = weights.data() + size_t{o} * taps.max_count;
    double sum = 0;
    for (uint32_t i = 0; i < taps.count[o]; ++i) {
      row[i] = cubic((static_cast<double>(first + i) - centre + 0.5) * inverse_stretch);
      sum += row[i];
    }
    for (uint32_t i = 0; i < taps.count[o]; ++i) {
      if (sum != 0) row[i] /= sum;
      max_weight = std::max(max_weight, row[i]);
    }
  }
  taps.precision = precision_for(max_weight);
  const double unit = static_cast<double>(1U << taps.precision);
  taps.weights.resize(weights.size());
  std::transform(weights.begin(), weights.end(), taps.weights.begin(),
                 [unit](double weight) { return static_cast<int16_t>(std::round(weight * unit)); });
  return taps;
}

}  // namespace beryl::media
