#include "bench/load/percentiles.h"

#include <gtest/gtest.h>

namespace beryl::load {
namespace {

TEST(PercentilesTest, UsesTheNearestRank) {
  Percentiles p;
  EXPECT_EQ(p.at(0.5), 0);
  for (int i = 100; i >= 1; --i) p.add(i);
  EXPECT_EQ(p.at(0.5), 50);
  EXPECT_EQ(p.at(0.99), 99);
  EXPECT_EQ(p.at(1), 100);
  EXPECT_EQ(p.at(0), 1);
  EXPECT_DOUBLE_EQ(p.mean(), 50.5);
}

}  // namespace
}  // namespace beryl::load
