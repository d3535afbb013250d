// Faults on purpose, to show that a check can fail. They sit between the decoder and the real
// operations; the server has no such switch.
#pragma once

#include <memory>
#include <string_view>

#include "kernels/ops.h"

namespace beryl::bench {

enum class PlantedFault {
  kNone,
  kSkipLayerScalar,  // the residual is not scaled at the end of a layer
  kPermuteSum,       // expert results are added in another order
  kSkipPostNorm,     // attention output is added without its norm's weight
  kTurnGrids,        // rows and columns of patches change places in RoPE
  kCausalSpans,      // soft tokens do not see the later ones of their picture
};

// Throws std::invalid_argument for an unknown name ("none", "skip-layer-scalar", "permute-sum",
// "skip-post-norm", "turn-grids", "causal-spans").
PlantedFault parse_planted_fault(std::string_view name);

// Operations of `ops` with the fault in them. kNone gives `ops` back.
std::unique_ptr<kernels::Ops> plant_fault(std::unique_ptr<kernels::Ops> ops, PlantedFault fault);

}  // namespace beryl::bench
