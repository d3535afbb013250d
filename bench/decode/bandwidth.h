// The read bandwidth of this machine, as the yardstick of decoding.
#pragma once

#include <cstddef>

namespace beryl::bench {

// Bytes/s that num_threads threads read from memory together: the best of several passes over a
// buffer far larger than the caches.
double measure_read_bandwidth(int num_threads, size_t buffer_bytes = size_t{1} << 30);

}  // namespace beryl::bench
