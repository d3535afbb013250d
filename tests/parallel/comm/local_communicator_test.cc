#include "parallel/comm/local_communicator.h"

#include <gtest/gtest.h>

#include "tests/parallel/comm/conformance_suite.h"
#include "tests/parallel/comm/run_ranks.h"

namespace beryl::comm {
namespace {

std::vector<Backend> local_backends() {
  std::vector<Backend> backends;
  for (const int size : {1, 2, 3, 4, 8}) {
    backends.push_back({"Local" + std::to_string(size),
                        [size](std::chrono::milliseconds deadline, const RankFunction& work) {
                          run_local_ranks(size, {deadline}, work);
                        }});
  }
  return backends;
}

INSTANTIATE_TEST_SUITE_P(Local, ConformanceTest, testing::ValuesIn(local_backends()),
                         [](const auto& info) { return info.param.name; });

TEST(LocalCommunicatorTest, ALeavingRankEndsTheGroupAtOnce) {
  const auto start = std::chrono::steady_clock::now();
  run_local_ranks(3, {}, [](std::unique_ptr<Communicator>& communicator) {
    if (communicator->rank() == 1) {
      communicator.reset();
      return;
    }
    expect_unavailable(communicator->barrier());
  });
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST(LocalCommunicatorTest, DifferentCollectivesAreAnError) {
  run_local_ranks(2, {}, [](std::unique_ptr<Communicator>& communicator) {
    std::byte all[2];
    const base::Status status = communicator->rank() == 0
                                    ? communicator->barrier()
                                    : communicator->all_gather(std::span(all).first(1), all);
    EXPECT_FALSE(status);
  });
}

TEST(LocalCommunicatorDeathTest, OrderOfExchangesIsChecked) {
  const auto misuse = [](bool starts_third) {
    auto group = make_local_group(1);
    SeededExchange exchange(*group[0], 1, 100);
    auto first = group[0]->start_all_to_all_v(exchange.buffers());
    auto second = group[0]->start_all_to_all_v(exchange.buffers());
    if (starts_third) {
      auto third = group[0]->start_all_to_all_v(exchange.buffers());
    } else {
      (void)second.value()->wait();
    }
  };
  EXPECT_DEATH(misuse(true), "2 exchanges are under way");
  EXPECT_DEATH(misuse(false), "comes first");
}

}  // namespace
}  // namespace beryl::comm
