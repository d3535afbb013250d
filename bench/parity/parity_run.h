// Runs the cases of a reference through our decoder and compares.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/model/planted_fault.h"
#include "bench/parity/comparison.h"
#include "kernels/cpu/isa.h"
#include "parallel/comm/communicator.h"

namespace beryl::bench {

struct ParityOptions {
  std::filesystem::path directory;
  std::filesystem::path model_directory = {};  // config.json and weights; empty: `directory`
  std::vector<std::string> cases;              // empty: all
  int num_threads = 1;                         // of each rank
  int max_chunk = 256;                         // prompt tokens in one step
  kernels::cpu::Isa isa = kernels::cpu::Isa::kBest;
  PlantedFault fault = PlantedFault::kNone;
  // Makes the operations of each rank; empty: the CPU's. Those that compute in bfloat16 are judged
  // by the yardstick of the reference, means pooled over the cases (one more check).
  std::function<std::unique_ptr<kernels::Ops>()> make_ops = {};
  bool verbose = false;  // also the hidden error of each layer
  ParityLimits limits = {};
};

struct ParityCounts {
  int passed = 0;
  int failed = 0;
  int skipped = 0;
};

// Collective: every rank of the group calls it; rank 0 holds the requests, compares, and gives
// `report` one line a case. The others lend their experts. Throws when a model cannot be loaded or
// the group fails.
ParityCounts run_parity(const ParityOptions& options, comm::Communicator& communicator,
                        const std::function<void(const std::string&)>& report);

}  // namespace beryl::bench
