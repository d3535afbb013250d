// Sorting of expert assignments (Ops::group_by_expert).
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace beryl::kernels::cpu {

void group_by_expert(const TensorView& topk_idx, const TensorView& topk_weights,
                     const int32_t* slot_of, const ExpertGroups& groups);

}  // namespace beryl::kernels::cpu
