// Runs one function on every rank of a local group, each in a thread of its own.
#pragma once

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "parallel/comm/local_communicator.h"

namespace beryl::comm {

// `work` may take its communicator to destroy it early.
inline void run_local_ranks(int size, LocalGroupOptions options,
                            const std::function<void(std::unique_ptr<Communicator>&)>& work) {
  auto group = make_local_group(size, options);
  std::vector<std::thread> threads;
  for (auto& communicator : group) threads.emplace_back([&] { work(communicator); });
  for (auto& thread : threads) thread.join();
}

}  // namespace beryl::comm
