// Which steps are worth keeping as a whole (kernels::Ops::run_repeatable): those that decode, which
// come back with other contents thousands of times. Chunks of prompts have too many shapes.
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace beryl::model {

// Above, the device computes far longer than launching takes.
constexpr int kMaxRepeatableRows = 512;

// One row a segment. `rows` as staged.
bool is_repeatable(const kernels::BatchView& rows);

// What attention is planned for instead of the largest position itself, so that a growing context
// needs a new plan rarely: the last position of its bucket. Buckets are 256 positions long, from
// 2048 on a quarter to an eighth of the position.
int32_t last_of_bucket(int32_t position);

}  // namespace beryl::model
