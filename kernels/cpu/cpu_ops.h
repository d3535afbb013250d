// The CPU implementation of Ops: float32 activations and KV, bfloat16 weights.
#pragma once

#include <memory>

#include "kernels/cpu/isa.h"
#include "kernels/ops.h"

namespace beryl::kernels::cpu {

struct CpuOpsOptions {
  int num_threads = 1;  // the calling thread included; 1 = everything runs inline
  Isa isa = Isa::kBest;
};

// The calls of one Ops object must not overlap (it has one thread pool and one scratch memory).
// The isa must be supported by this CPU.
std::unique_ptr<Ops> make_cpu_ops(const CpuOpsOptions& options);

}  // namespace beryl::kernels::cpu
