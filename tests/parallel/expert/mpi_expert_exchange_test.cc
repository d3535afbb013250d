// The exchange between processes. Runs under mpirun; every rank runs every test.
#include <gtest/gtest.h>

#include "parallel/comm/mpi/mpi_communicator.h"
#include "tests/parallel/expert/exchange_world.h"
#include "tests/parallel/expert/scalar_ops.h"

namespace beryl::expert {
namespace {

// Set once in main, before any test.
comm::Communicator*& communicator() {
  static comm::Communicator* instance = nullptr;
  return instance;
}

int run_case(const ExchangeCase& test) {
  ScalarOps ops;
  const base::Expected<int> wrong = run_case_on_rank(test, *communicator(), ops);
  EXPECT_TRUE(wrong) << wrong.error().message;
  return wrong ? *wrong : -1;
}

ExchangeCase make_case(StepMode mode, Routing routing) {
  const int size = communicator()->size();
  ExchangeCase test{
      {16, 4, 700, routing}, Placement::contiguous(16, size), mode, unequal_rows(size, 30, 7)};
  return test;
}

TEST(MpiExpertExchangeTest, EveryRoutingInBothModes) {
  for (const StepMode mode : {StepMode::kExact, StepMode::kPadded}) {
    for (const Routing routing :
         {Routing::kRandom, Routing::kSparse, Routing::kOneExpert, Routing::kLastExperts}) {
      EXPECT_EQ(run_case(make_case(mode, routing)), 0);
    }
  }
}

// Skipped on rank size - 1; whoever routed a row there must see it.
TEST(MpiExpertExchangeTest, SkippedExpertIsCaught) {
  ExchangeCase test = make_case(StepMode::kExact, Routing::kRandom);
  test.rank_rows.assign(test.rank_rows.size(), test.max_rows);
  test.skipped_expert = 15;
  EXPECT_GT(run_case(test), 0);
}

}  // namespace
}  // namespace beryl::expert

int main(int argc, char** argv) {
  auto environment = beryl::comm::MpiEnvironment::create(&argc, &argv);
  if (!environment) return 1;
  auto communicator = beryl::comm::make_mpi_communicator(*environment.value());
  if (!communicator) return 1;
  beryl::expert::communicator() = communicator.value().get();
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
