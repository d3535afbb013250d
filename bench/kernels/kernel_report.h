// Runs cases: verify, warm up, measure; one line and one JSON object each.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "bench/kernels/kernel_case.h"

namespace beryl::bench {

struct DevicePeaks {
  double bytes_per_s = 0;
  double flops_per_s = 0;
};

struct KernelReportOptions {
  std::string filter;     // substring of the names that are run; empty: all
  double seconds = 0.05;  // of measuring a case
};

class KernelReport {
 public:
  KernelReport(kernels::Ops& ops, const DevicePeaks& peaks, KernelReportOptions options)
      : ops_(ops), peaks_(peaks), options_(std::move(options)) {}

  void run(const KernelCase& one);

  // [{"name", "us_median", "us_p99", "gb_s", "percent_of_bandwidth", "tflop_s", ...}]
  const nlohmann::json& results() const { return results_; }
  int num_failed() const { return num_failed_; }

 private:
  kernels::Ops& ops_;
  const DevicePeaks peaks_;
  const KernelReportOptions options_;
  nlohmann::json results_ = nlohmann::json::array();
  int num_failed_ = 0;
};

// Operations/s of products of size x size x size through the operations, with their types.
double measure_matmul_peak(kernels::Ops& ops, int64_t size = 8192);

}  // namespace beryl::bench
