#include "parallel/expert/combine_layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

namespace beryl::expert {
namespace {

TEST(SumNodesTest, PowerOfTwoRanksHoldOneNodeEach) {
  for (const int num_ranks : {1, 2, 4, 8, 16}) {
    const Placement placement = Placement::contiguous(16, num_ranks);
    const std::vector<int32_t> nodes = sum_nodes(placement);
    const int width = 16 / num_ranks;
    for (int expert = 0; expert < 16; ++expert) {
      EXPECT_EQ(nodes[static_cast<size_t>(expert)], expert / width * width);
    }
  }
}

TEST(SumNodesTest, UnevenPlacementSplitsIntoAlignedNodes) {
  // Rank 0: 0-3, rank 1: 4-8, rank 2: 9-13 (14 experts on 3 ranks).
  const std::vector<int32_t> nodes = sum_nodes(Placement::contiguous(14, 3));
  EXPECT_EQ(nodes, (std::vector<int32_t>{0, 0, 0, 0, 4, 4, 4, 4, 8, 9, 10, 10, 12, 12}));
}

TEST(SumNodesTest, ExpertsWithCopiesStandAlone) {
  const Placement placement = Placement::from_table(8, {{0, 1, 2, 3, 5}, {4, 5, 6, 7}}).value();
  EXPECT_EQ(sum_nodes(placement), (std::vector<int32_t>{0, 0, 0, 0, 4, 5, 6, 6}));
}

TEST(CombineLayoutTest, OneRowPerNodeAndDispatchedRow) {
  const DispatchFormat format{4, 3};
  const std::vector<int32_t> nodes = {0, 0, 2, 3};
  alignas(kMessageAlignment) std::byte memory[1024] = {};
  ASSERT_LE(format.message_bytes(2), sizeof(memory));
  const float x[4] = {1, 2, 3, 4};
  const float weights[3] = {1, 1, 1};
  DispatchMessage message = DispatchMessage::reset(format, memory, 2);
  message.append({std::vector<int32_t>{0, 1, 3}, weights}, x);
  message.append({std::vector<int32_t>{2}, {weights, 1}}, x);

  CombineLayout layout(nodes, 2, 4, 3);
  layout.add_peer(DispatchMessage{});
  layout.add_peer(DispatchMessage::open(format, memory, format.message_bytes(2)));
  ASSERT_EQ(layout.rows().size(), 3u);
  EXPECT_EQ(layout.rows()[0].key, 0);
  EXPECT_EQ(layout.rows()[0].end, 2);
  EXPECT_EQ(layout.rows()[1].key, 3);
  EXPECT_EQ(layout.rows()[1].row, 0);
  EXPECT_EQ(layout.rows()[2].key, 2);
  EXPECT_EQ(layout.rows()[2].row, 1);
  const auto offsets = layout.byte_offsets(format);
  EXPECT_EQ(std::vector<size_t>(offsets.begin(), offsets.end()),
            (std::vector<size_t>{0, 0, 3 * 16}));
}

TEST(DispatchMessageTest, BrokenMessagesAreNotValid) {
  const DispatchFormat format{4, 3};
  alignas(kMessageAlignment) std::byte memory[1024] = {};
  DispatchMessage::reset(format, memory, 2);
  const size_t num_bytes = format.message_bytes(2);
  EXPECT_TRUE(DispatchMessage::open(format, memory, num_bytes).valid());
  EXPECT_FALSE(DispatchMessage::open(format, memory, num_bytes - 64).valid());
  EXPECT_FALSE(DispatchMessage::open(format, memory, 8).valid());
  reinterpret_cast<DispatchHeader*>(memory)->count = 3;
  EXPECT_FALSE(DispatchMessage::open(format, memory, num_bytes).valid());
}

}  // namespace
}  // namespace beryl::expert
