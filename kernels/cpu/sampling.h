// Sampling of one row on the CPU.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/kernel_table.h"
#include "kernels/sampling.h"

namespace beryl::kernels::cpu {

struct Candidate {
  float logit;  // after penalties and bias, before temperature
  int32_t token_id;
  float mass;  // exp((logit - max) / temperature)
};

// Memory that is reused from row to row; its contents mean nothing between calls.
struct SamplingScratch {
  std::vector<Candidate> candidates;
  std::vector<Candidate> border;
  std::vector<float> masses;  // [vocab_size]
  std::vector<double> bucket_mass;
};

// logits [vocab_size] are changed in place: penalties and bias.
SampledToken sample_row(const KernelTable& kernels, const SamplingRow& row, float* logits,
                        int32_t vocab_size, SamplingScratch& scratch);

}  // namespace beryl::kernels::cpu
