#include "parallel/expert/placement.h"

#include <gtest/gtest.h>

#include <set>

namespace beryl::expert {
namespace {

TEST(PlacementTest, ContiguousCoversAllExpertsEvenly) {
  for (const int num_ranks : {1, 2, 3, 7, 8, 20}) {
    const Placement placement = Placement::contiguous(13, num_ranks);
    ASSERT_EQ(placement.num_ranks(), num_ranks);
    int32_t next = 0;
    for (int rank = 0; rank < num_ranks; ++rank) {
      const auto local = placement.local_experts(rank);
      EXPECT_LE(local.size(), static_cast<size_t>(13 / num_ranks + 1));
      for (size_t slot = 0; slot < local.size(); ++slot) {
        EXPECT_EQ(local[slot], next++);
        ASSERT_EQ(placement.copies(local[slot]).size(), 1u);
        EXPECT_EQ(placement.copies(local[slot])[0].rank, rank);
        EXPECT_EQ(placement.copies(local[slot])[0].slot, static_cast<int32_t>(slot));
      }
    }
    EXPECT_EQ(next, 13);
  }
}

TEST(PlacementTest, TableMistakesAreErrors) {
  EXPECT_TRUE(Placement::from_table(2, {{1}, {0, 1}}));
  EXPECT_FALSE(Placement::from_table(2, {{1}, {1}}));      // nobody holds 0
  EXPECT_FALSE(Placement::from_table(2, {{0, 1, 0}}));     // twice on a rank
  EXPECT_FALSE(Placement::from_table(2, {{0, 1, 2}}));     // out of range
  EXPECT_FALSE(Placement::from_table(2, {{0, 1}, {-1}}));  // out of range
  EXPECT_FALSE(Placement::from_table(2, {}));
  EXPECT_FALSE(Placement::from_table(0, {{}}));
}

TEST(PlacementTest, CopyDependsOnRequestPositionAndLayerAlone) {
  const Placement placement = Placement::from_table(2, {{0}, {1, 0}, {0}}).value();
  std::set<int32_t> by_seed;
  std::set<int32_t> by_position;
  std::set<int32_t> by_layer;
  for (int i = 0; i < 64; ++i) {
    by_seed.insert(placement.choose_copy(0, static_cast<uint64_t>(i), 5, 1).rank);
    by_position.insert(placement.choose_copy(0, 9, i, 1).rank);
    by_layer.insert(placement.choose_copy(0, 9, 5, i).rank);
  }
  EXPECT_EQ(by_seed.size(), 3u);
  EXPECT_EQ(by_position.size(), 3u);
  EXPECT_EQ(by_layer.size(), 3u);
  const ExpertCopy once = placement.choose_copy(0, 77, 5, 2);
  const ExpertCopy again = placement.choose_copy(0, 77, 5, 2);
  EXPECT_EQ(once.rank, again.rank);
  EXPECT_EQ(once.slot, once.rank == 1 ? 1 : 0);
  EXPECT_EQ(placement.choose_copy(1, 77, 5, 2).rank, 1);
}

}  // namespace
}  // namespace beryl::expert
