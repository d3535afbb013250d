#include "coordinator/cluster/group_assembler.h"

#include <gtest/gtest.h>

#include "parallel/wire/mock_worker.h"

namespace beryl::cluster {
namespace {

using wire::mock_registration;

TEST(GroupAssemblerTest, IsCompleteWhenAllRanksOfALaunchAreThere) {
  GroupAssembler assembler;
  EXPECT_TRUE(assembler.add(mock_registration(1, 2, "a")));
  EXPECT_FALSE(assembler.is_complete());
  EXPECT_EQ(assembler.describe(), "1 of 2 ranks are there");
  EXPECT_TRUE(assembler.add(mock_registration(0, 2, "a")));
  ASSERT_TRUE(assembler.is_complete());
  EXPECT_EQ(assembler.start(), "a");
  EXPECT_TRUE(assembler.is_running("a"));
  EXPECT_FALSE(assembler.is_complete());
}

TEST(GroupAssemblerTest, RefusesASecondRankOfTheSameNumber) {
  GroupAssembler assembler;
  EXPECT_TRUE(assembler.add(mock_registration(0, 2, "a")));
  EXPECT_FALSE(assembler.add(mock_registration(0, 2, "a")));
  EXPECT_TRUE(assembler.add(mock_registration(1, 2, "a")));
  (void)assembler.start();
  EXPECT_FALSE(assembler.add(mock_registration(1, 2, "a")));
}

TEST(GroupAssemblerTest, ALaunchThatIsOverNeverReturns) {
  GroupAssembler assembler;
  EXPECT_TRUE(assembler.add(mock_registration(0, 2, "a")));
  assembler.retire("a");
  EXPECT_FALSE(assembler.add(mock_registration(1, 2, "a")));
  EXPECT_TRUE(assembler.add(mock_registration(0, 1, "b")));
  (void)assembler.start();
  EXPECT_TRUE(assembler.add(mock_registration(0, 1, "c")));
  (void)assembler.start();  // replaces b
  EXPECT_FALSE(assembler.add(mock_registration(0, 1, "b")));
}

TEST(GroupAssemblerTest, ANewLaunchDisplacesAnIncompleteOne) {
  GroupAssembler assembler;
  EXPECT_TRUE(assembler.add(mock_registration(0, 2, "a")));
  EXPECT_TRUE(assembler.add(mock_registration(0, 2, "b")));
  EXPECT_FALSE(assembler.is_waiting("a"));
  EXPECT_TRUE(assembler.is_retired("a"));
  EXPECT_TRUE(assembler.is_waiting("b"));
}

TEST(GroupAssemblerTest, RanksMustAgree) {
  GroupAssembler assembler;
  EXPECT_TRUE(assembler.add(mock_registration(0, 3, "a")));
  EXPECT_FALSE(assembler.add(mock_registration(1, 2, "a")));
  auto other_model = mock_registration(1, 3, "a");
  other_model.mutable_model()->set_fingerprint(77);
  EXPECT_FALSE(assembler.add(other_model));
  auto other_cache = mock_registration(1, 3, "a");
  other_cache.mutable_cache()->set_num_pages(1);
  EXPECT_FALSE(assembler.add(other_cache));
  EXPECT_TRUE(assembler.add(mock_registration(1, 3, "a")));
}

TEST(GroupAssemblerTest, ForgetsTheOldestLaunchesOnly) {
  GroupAssembler assembler;
  for (size_t i = 0; i <= GroupAssembler::kMaxRetired; ++i) assembler.retire(std::to_string(i));
  EXPECT_FALSE(assembler.is_retired("0"));
  EXPECT_TRUE(assembler.is_retired("1"));
}

}  // namespace
}  // namespace beryl::cluster
