#include "coordinator/scheduler/page_pool.h"

#include <gtest/gtest.h>

#include <set>

#include "coordinator/scheduler/retirement.h"

namespace beryl::scheduler {
namespace {

TEST(PagePoolTest, GivesEveryPageOnce) {
  PagePool pool(5);
  std::set<uint32_t> pages;
  while (pool.num_free() > 0) pages.insert(pool.take());
  EXPECT_EQ(pages, (std::set<uint32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(pool.num_taken(), 5U);
}

TEST(PagePoolTest, CountsRetiringPagesAsTaken) {
  PagePool pool(2);
  const uint32_t page = pool.take();
  pool.begin_retiring(page);
  EXPECT_EQ(pool.num_retiring(), 1U);
  EXPECT_EQ(pool.num_taken(), 1U);
  pool.end_retiring(page);
  EXPECT_EQ(pool.num_taken(), 0U);
}

TEST(PagePoolDeathTest, AbortsOnDoubleFreeAndOnAnEmptyPool) {
  PagePool pool(1);
  EXPECT_DEATH(pool.begin_retiring(0), "state 0, expected 1");
  const uint32_t page = pool.take();
  EXPECT_DEATH(pool.take(), "no free page");
  pool.begin_retiring(page);
  EXPECT_DEATH(pool.begin_retiring(page), "state 2, expected 1");
  pool.end_retiring(page);
  EXPECT_DEATH(pool.end_retiring(page), "state 0, expected 2");
  EXPECT_DEATH(pool.end_retiring(7), "page 7 of 1");
}

TEST(RetirementTest, HoldsAPageUntilItsLastStepCompletes) {
  PagePool pool(2);
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
  PagePool pool(1);
  Retirement retirement;
  retirement.complete(3);
  retirement.retire(pool, pool.take(), 3);
  EXPECT_EQ(pool.num_free(), 1U);
}

}  // namespace
}  // namespace beryl::scheduler
