#include "coordinator/scheduler/block_pool.h"

#include <gtest/gtest.h>

#include <set>

#include "coordinator/scheduler/retirement.h"

namespace beryl::scheduler {
namespace {

TEST(BlockPoolTest, GivesEveryBlockOnce) {
  BlockPool pool(5);
  std::set<uint32_t> blocks;
  while (pool.num_free() > 0) blocks.insert(pool.take());
  EXPECT_EQ(blocks, (std::set<uint32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(pool.num_taken(), 5U);
}

TEST(BlockPoolTest, CountsRetiringBlocksAsTaken) {
  BlockPool pool(2);
  const uint32_t block = pool.take();
  pool.begin_retiring(block);
  EXPECT_EQ(pool.num_retiring(), 1U);
  EXPECT_EQ(pool.num_taken(), 1U);
  pool.end_retiring(block);
  EXPECT_EQ(pool.num_taken(), 0U);
}

TEST(BlockPoolDeathTest, AbortsOnDoubleFreeAndOnAnEmptyPool) {
  BlockPool pool(1);
  EXPECT_DEATH(pool.begin_retiring(0), "state 0, expected 1");
  const uint32_t block = pool.take();
  EXPECT_DEATH(pool.take(), "no free block");
  pool.begin_retiring(block);
  EXPECT_DEATH(pool.begin_retiring(block), "state 2, expected 1");
  pool.end_retiring(block);
  EXPECT_DEATH(pool.end_retiring(block), "state 0, expected 2");
  EXPECT_DEATH(pool.end_retiring(7), "block 7 of 1");
}

TEST(RetirementTest, HoldsABlockUntilItsLastStepCompletes) {
  BlockPool pool(2);
  Retirement retirement;
  retirement.complete(3);
  retirement.retire(pool, pool.take(), 5);
  EXPECT_EQ(pool.num_free(), 1U);
  retirement.complete(4);
  EXPECT_EQ(pool.num_free(), 1U);
  retirement.complete(5);
  EXPECT_EQ(pool.num_free(), 2U);
}

TEST(RetirementTest, FreesAtOnceWhatNoOpenStepNames) {
  BlockPool pool(1);
  Retirement retirement;
  retirement.complete(3);
  retirement.retire(pool, pool.take(), 3);
  EXPECT_EQ(pool.num_free(), 1U);
}

}  // namespace
}  // namespace beryl::scheduler
