// Samples of one duration and their percentiles. Exact: every sample is kept, up to a cap.
#pragma once

#include <cstddef>
#include <vector>

namespace beryl::load {

constexpr size_t kMaxSamples = 20'000'000;

class Percentiles {
 public:
  void add(double value) {
    if (samples_.size() < kMaxSamples) samples_.push_back(value);
  }
  void merge(const Percentiles& other) {
    for (const double value : other.samples_) add(value);
  }
  size_t count() const { return samples_.size(); }
  // Nearest rank, q in [0, 1]. 0 without samples.
  double at(double q) const;
  double mean() const;
  double stddev() const;  // of the samples themselves: divided by their number

 private:
  std::vector<double> samples_;
};

}  // namespace beryl::load
