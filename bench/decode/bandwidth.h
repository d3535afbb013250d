// The read bandwidth of this machine, as the yardstick of decoding.
#pragma once

#include <cstddef>

namespace beryl::bench {

// Bytes/s that num_threads threads read from memory together: the median of passes over a buffer
// far larger than the caches, for about a second. Single passes of a shared machine come near twice
// that, which nothing that runs for longer can reach.
double measure_read_bandwidth(int num_threads, size_t buffer_bytes = size_t{1} << 30);

}  // namespace beryl::bench
