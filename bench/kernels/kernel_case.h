// One operation at one shape.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels/ops.h"

namespace beryl::bench {

struct KernelCase {
  std::string name;  // "linear/cols:4096/k:2816/rows:8"
  double bytes = 0;  // that must be read or written at least
  double flops = 0;
  // Starts the work; `i` counts runs, so that weights can be taken from copies that no cache holds.
  std::function<void(int i)> run;
  // Relative difference from another way to the same result, after run(0); empty: none.
  std::function<double()> error;
  double max_error = 1e-2;  // bf16 tensors in between
};

// Makes its cases one after another, each with memory of its own that is free again afterwards.
using CaseVisitor = std::function<void(const KernelCase&)>;

struct KernelOps {
  kernels::Ops& ops;    // measured
  kernels::Ops& plain;  // kernels of ours alone, plain attention: what results are compared with
};

void visit_kernel_cases(const KernelOps& device, const CaseVisitor& visit);
void visit_attention_cases(const KernelOps& device, const CaseVisitor& visit);
void visit_vision_cases(const KernelOps& device, const CaseVisitor& visit);

}  // namespace beryl::bench
