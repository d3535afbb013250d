#include "bench/kernels/kernel_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#include "bench/kernels/device_tensors.h"

namespace beryl::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kSamples = 21;

void wait(kernels::Ops& ops) {
  ops.download(nullptr, nullptr, 0);
}

// Seconds of `count` runs that follow each other without waiting: launches hide behind work where
// the work is longer than a launch (a few microseconds).
double seconds_of(kernels::Ops& ops, const KernelCase& one, int first, int count) {
  wait(ops);
  const auto start = Clock::now();
  for (int i = 0; i < count; ++i) one.run(first + i);
  wait(ops);
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

void KernelReport::run(const KernelCase& one) {
  if (one.name.find(options_.filter) == std::string::npos) return;
  one.run(0);
  const double error = one.error ? one.error() : 0;
  const bool is_right = error <= one.max_error;
  if (!is_right) ++num_failed_;
  const double once = seconds_of(ops_, one, 1, 3) / 3;
  const int count = std::clamp(static_cast<int>(options_.seconds / kSamples / once), 1, 500);
  std::vector<double> samples;
  for (int s = 0; s < kSamples; ++s)
    samples.push_back(seconds_of(ops_, one, s * count, count) / count);
  std::sort(samples.begin(), samples.end());
  const double median = samples[kSamples / 2];
  const double bandwidth = one.bytes / median;
  const double rate = one.flops / median;
  nlohmann::json entry = {{"name", one.name},
                          {"us_median", median * 1e6},
                          {"us_p99", samples.back() * 1e6},
                          {"gb_s", bandwidth / 1e9},
                          {"percent_of_bandwidth", 100 * bandwidth / peaks_.bytes_per_s},
                          {"is_right", is_right}};
  if (one.error) entry["error"] = error;
  std::string line = fmt::format("{:<52} {:>9.1f} us (p99 {:>9.1f}) {:>7.0f} GB/s = {:>3.0f} %",
                                 one.name, median * 1e6, samples.back() * 1e6, bandwidth / 1e9,
                                 100 * bandwidth / peaks_.bytes_per_s);
  if (one.flops > 0) {
    entry["tflop_s"] = rate / 1e12;
    entry["percent_of_matmul_peak"] = 100 * rate / peaks_.flops_per_s;
    line += fmt::format(", {:>5.0f} TFLOP/s = {:>3.0f} %", rate / 1e12,
                        100 * rate / peaks_.flops_per_s);
  }
  if (!is_right) line += fmt::format("  WRONG: error {:.1e}", error);
  std::puts(line.c_str());
  results_.push_back(std::move(entry));
}

double measure_matmul_peak(kernels::Ops& ops, int64_t size) {
  DeviceTensors tensors(ops);
  const bool is_bf16 = ops.activation_dtype() == kernels::DType::kBFloat16;
  const kernels::TensorView x =
      is_bf16 ? tensors.random({size, size}, 1) : tensors.random_rows(size, size);
  const kernels::TensorView weight = tensors.random({size, size}, 0.02f);
  const kernels::TensorView out = tensors.zeros(kernels::DType::kFloat32, {size, size});
  KernelCase one;
  one.run = [&](int) { ops.linear(x, weight, out); };
  constexpr int kWarmup = 3;
  constexpr int kCount = 10;
  (void)seconds_of(ops, one, 0, kWarmup);
  const auto edge = static_cast<double>(size);
  return 2 * edge * edge * edge * kCount / seconds_of(ops, one, 0, kCount);
}

}  // namespace beryl::bench
