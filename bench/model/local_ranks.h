// Runs the same function once per rank, each rank a thread of this process.
#pragma once

#include <functional>

#include "parallel/comm/communicator.h"

namespace beryl::bench {

// The first exception of any rank is thrown on, after all have ended.
void run_local_ranks(int num_ranks, const std::function<void(comm::Communicator&)>& rank_main);

}  // namespace beryl::bench
