// Runs job(0) .. job(count - 1) on a few threads and waits for all of them. The first exception is
// thrown on in the caller; jobs not yet started are then left out.
#pragma once

#include <cstddef>
#include <functional>

namespace beryl::weights {

constexpr int kMaxLoadThreads = 256;

void parallel_for(int num_threads, size_t count, const std::function<void(size_t)>& job);

}  // namespace beryl::weights
