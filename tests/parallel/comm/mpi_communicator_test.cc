// Runs under mpirun; every rank runs every test.
#include "parallel/comm/mpi/mpi_communicator.h"

#include <gtest/gtest.h>

#include "tests/parallel/comm/conformance_suite.h"

namespace beryl::comm {
namespace {

// Set once in main, before any test.
MpiEnvironment*& environment() {
  static MpiEnvironment* instance = nullptr;
  return instance;
}

void run_mpi_rank(std::chrono::milliseconds deadline, const RankFunction& work) {
  auto communicator = make_mpi_communicator(*environment(), {deadline});
  ASSERT_TRUE(communicator) << communicator.error().message;
  work(communicator.value());
}

INSTANTIATE_TEST_SUITE_P(Mpi, ConformanceTest, testing::Values(Backend{"Mpi", run_mpi_rank}),
                         [](const auto& info) { return info.param.name; });

TEST(MpiCommunicatorTest, KnowsItsPlace) {
  run_mpi_rank(std::chrono::seconds(20), [](std::unique_ptr<Communicator>& communicator) {
    EXPECT_EQ(communicator->rank(), environment()->rank());
    EXPECT_EQ(communicator->size(), environment()->size());
  });
}

TEST(MpiCommunicatorTest, PartsThatMpiCannotCountAreRefused) {
  run_mpi_rank(std::chrono::seconds(20), [](std::unique_ptr<Communicator>& communicator) {
    std::vector<size_t> offsets(static_cast<size_t>(communicator->size()) + 1);
    offsets.back() = kMaxMpiPartBytes + 1;
    auto pending = communicator->start_all_to_all_v({nullptr, offsets, nullptr, offsets});
    ASSERT_FALSE(pending);
  });
}

TEST(MpiEnvironmentTest, SecondOneIsRefused) {
  EXPECT_FALSE(MpiEnvironment::create(nullptr, nullptr));
}

}  // namespace
}  // namespace beryl::comm

int main(int argc, char** argv) {
  auto environment = beryl::comm::MpiEnvironment::create(&argc, &argv);
  if (!environment) return 1;
  beryl::comm::environment() = environment.value().get();
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
