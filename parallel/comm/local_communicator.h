// Ranks that are threads of one process. Works with more threads than cores: waits block on a
// condition variable.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "parallel/comm/communicator.h"

namespace beryl::comm {

struct LocalGroupOptions {
  std::chrono::milliseconds deadline = kDefaultCollectiveDeadline;  // of each wait
};

// The communicators of ranks 0 .. size - 1, one for each thread. Size 1 copies. Destroying one, or
// dropping an exchange without wait(), ends the group: peers still in a call get kUnavailable.
std::vector<std::unique_ptr<Communicator>> make_local_group(int size,
                                                            LocalGroupOptions options = {});

}  // namespace beryl::comm
