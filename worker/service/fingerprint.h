// A number that is equal where two ranks would compute the same thing: configuration, source of the
// weights and seed. Files count by name, size, header and a sample of their bytes, because a full
// read would cost as long as loading.
#pragma once

#include <cstdint>

#include "worker/service/worker_options.h"

namespace beryl::service {

// Throws std::runtime_error when a file cannot be read.
uint64_t model_fingerprint(const WorkerOptions& options);

}  // namespace beryl::service
