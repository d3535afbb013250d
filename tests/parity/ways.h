// The ways to compute one request that must all give the same bits.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/model/planted_fault.h"
#include "kernels/cpu/isa.h"
#include "parallel/comm/communicator.h"
#include "parallel/expert/expert_exchange.h"
#include "tests/parity/trace.h"

namespace beryl::bench {

struct Way {
  std::string name;
  int num_prefilled = 0;    // tokens that come in chunks, at least to the end of the last picture;
                            // the rest is decoded one by one
  int chunk = 1;            // tokens of one prefill step; a picture is never cut
  bool with_mates = false;  // other requests share the steps, on all ranks
  int home_rank = 0;        // of the traced request, modulo the number of ranks
  expert::StepMode mode = expert::StepMode::kExact;
};

// A picture drawn by a formula; its soft tokens begin at `position`.
struct SubjectPicture {
  int position = 0;
  unsigned height = 0;
  unsigned width = 0;
};

struct SubjectModel {
  std::string directory;  // config.json, and weights or else the seed is used
  uint64_t seed = 0;
  std::vector<int32_t> token_ids = {};  // of the traced request
  std::vector<SubjectPicture> pictures = {};
};

struct ComputeOptions {
  int num_threads = 1;  // of each rank
  kernels::cpu::Isa isa = kernels::cpu::Isa::kBest;
  PlantedFault fault = PlantedFault::kNone;
};

// All ways that are checked, for a request of num_tokens.
std::vector<Way> all_ways(int num_tokens);

// Runs the ways one after the other on this rank of a group; collective. One trace a way, empty on
// ranks that are not the home rank. Throws when the group fails.
std::vector<Trace> compute_traces(const SubjectModel& subject, const std::vector<Way>& ways,
                                  const ComputeOptions& options, comm::Communicator& communicator);

}  // namespace beryl::bench
