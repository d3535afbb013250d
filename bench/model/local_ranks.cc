#include "bench/model/local_ranks.h"

#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "parallel/comm/local_communicator.h"

namespace beryl::bench {

void run_local_ranks(int num_ranks, const std::function<void(comm::Communicator&)>& rank_main) {
  const std::vector<std::unique_ptr<comm::Communicator>> group = comm::make_local_group(num_ranks);
  std::mutex mutex;
  std::exception_ptr failure;
  const auto guarded = [&](comm::Communicator& communicator) {
    try {
      rank_main(communicator);
    } catch (...) {
      const std::scoped_lock lock(mutex);
      if (!failure) failure = std::current_exception();
      communicator.abort();
    }
  };
  std::vector<std::thread> threads;
  for (int rank = 1; rank < num_ranks; ++rank) {
    threads.emplace_back(guarded, std::ref(*group[static_cast<size_t>(rank)]));
  }
  guarded(*group[0]);
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace beryl::bench
