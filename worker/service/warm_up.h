// The first steps of a rank on a device, before anybody waits for one: buffers grow to what the
// largest step and picture need, libraries choose algorithms, code of kernels is loaded.
#pragma once

#include <cstdint>

#include "worker/model/model_config.h"
#include "worker/service/rank_model.h"

namespace beryl::service {

// One step of `max_rows` rows, or as many as the cache holds, some that decode, and one picture of
// the largest size. Writes to pages of the cache that nobody has yet. Throws kernels::DeviceError.
void warm_up(RankModel& model, const model::ModelConfig& config, uint32_t max_rows);

}  // namespace beryl::service
