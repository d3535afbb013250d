// When requests start.
#pragma once

#include <cstdint>
#include <vector>

namespace beryl::load {

// Seconds after the start, ascending: a Poisson process of `rate` requests/s, the first at 0.
// rate 0 stands for infinite: all at 0. The same for the same seed everywhere.
std::vector<double> arrival_seconds(int num_requests, double rate, uint64_t seed);

}  // namespace beryl::load
