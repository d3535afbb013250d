#include "bench/serve/arrivals.h"

#include <cmath>
#include <random>

namespace beryl::load {

std::vector<double> arrival_seconds(int num_requests, double rate, uint64_t seed) {
  std::vector<double> times(static_cast<size_t>(num_requests), 0.0);
  if (rate <= 0) return times;
  std::mt19937_64 random(seed);
  for (size_t i = 1; i < times.size(); ++i) {
    // Of 53 bits, in (0, 1]; the library's distributions differ between implementations.
    const double uniform = (static_cast<double>(random() >> 11) + 1) * 0x1p-53;
    times[i] = times[i - 1] - std::log(uniform) / rate;
  }
  return times;
}

}  // namespace beryl::load
