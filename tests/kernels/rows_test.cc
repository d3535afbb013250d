// Norms, embedding, merge of the feed-forward branches, tree sums.
#include <map>

#include "tests/kernels/test_util.h"

namespace beryl::kernels {
namespace {

constexpr double kTolerance = 1e-6;
constexpr float kEps = 1e-6f;

class RowsTest : public IsaTest {};

reference::Vector exact(const WeightMatrix& gains) {
  return gains.exact().data;
}

TEST_P(RowsTest, NormsAgreeWithTheReference) {
  const auto ops = make_ops(2);
  Random random(1);
  for (const int64_t n : {1, 7, 48, 72, 96, 128, 1408}) {
    WeightMatrix gain = random.gains(n);
    for (const int64_t rows : {0, 1, 3, 65}) {
      FloatMatrix x = random.floats(rows, n);
      FloatMatrix out(rows, n);
      ops->rms_norm(x.view(), gain.vector_view(), kEps, out.view());
      const reference::Matrix normed = reference::rms_norm(x.exact(), exact(gain), kEps);
      EXPECT_LT(relative_error(out, normed), kTolerance);

      ops->rms_norm(x.view(), {}, kEps, out.view());
      EXPECT_LT(relative_error(out, reference::rms_norm(x.exact(), {}, kEps)), kTolerance);

      FloatMatrix residual = random.floats(rows, n);
      reference::Matrix sum = residual.exact();
      for (size_t i = 0; i < sum.data.size(); ++i) sum.data[i] += normed.data[i];
      ops->add_rms_norm(x.view(), gain.vector_view(), kEps, residual.view());
      EXPECT_LT(relative_error(residual, sum), kTolerance);
    }
  }
}

TEST_P(RowsTest, EmbeddingIsExact) {
  const auto ops = make_ops();
  Random random(2);
  WeightMatrix table = random.weights(10, 72, 1);
  const std::vector<int32_t> ids = {9, 0, 3, 3};
  FloatMatrix out(4, 72);
  ops->embed(table.view(), ids.data(), 53, out.view());
  for (int64_t t = 0; t < 4; ++t) {
    for (int64_t i = 0; i < 72; ++i) {
      const size_t index = static_cast<size_t>(ids[static_cast<size_t>(t)] * 72 + i);
      ASSERT_EQ(out.row(t)[i], bf16_to_float(table.data[index]) * 53);
    }
  }
}

TEST_P(RowsTest, MergeAgreesWithTheReferenceAndIsAloneTheSame) {
  const auto ops = make_ops(2);
  Random random(3);
  constexpr int64_t kWidth = 136;
  WeightMatrix dense_norm = random.gains(kWidth);
  WeightMatrix experts_norm = random.gains(kWidth);
  WeightMatrix post_norm = random.gains(kWidth);
  FloatMatrix dense = random.floats(9, kWidth);
  FloatMatrix experts = random.floats(9, kWidth);
  const FloatMatrix before = random.floats(9, kWidth);
  const FfnMergeWeights weights = {dense_norm.vector_view(), experts_norm.vector_view(),
                                   post_norm.vector_view(), 0.37f};
  FloatMatrix residual = before;
  ops->merge_ffn(weights, dense.view(), experts.view(), kEps, residual.view());

  reference::Matrix sum = reference::rms_norm(dense.exact(), exact(dense_norm), kEps);
  const reference::Matrix other = reference::rms_norm(experts.exact(), exact(experts_norm), kEps);
  for (size_t i = 0; i < sum.data.size(); ++i) sum.data[i] += other.data[i];
  reference::Matrix expected = reference::rms_norm(sum, exact(post_norm), kEps);
  for (size_t i = 0; i < expected.data.size(); ++i) {
    expected.data[i] = (expected.data[i] + before.data[i]) * double{0.37f};
  }
  EXPECT_LT(relative_error(residual, expected), kTolerance);

  FloatMatrix one_dense = dense.rows(4, 5);
  FloatMatrix one_experts = experts.rows(4, 5);
  FloatMatrix one = before.rows(4, 5);
  ops->merge_ffn(weights, one_dense.view(), one_experts.view(), kEps, one.view());
  EXPECT_TRUE(same_bits(one, residual.rows(4, 5)));
}

// The sum of the leaves under the aligned node [first, first + size), written as the definition.
float tree_sum_of(const std::map<int, float>& leaves, int first, int size, bool& is_absent) {
  const auto begin = leaves.lower_bound(first);
  const auto end = leaves.lower_bound(first + size);
  is_absent = begin == end;
  if (is_absent) return 0;
  if (std::next(begin) == end) return begin->second;
  bool left_absent = false;
  bool right_absent = false;
  const float left = tree_sum_of(leaves, first, size / 2, left_absent);
  const float right = tree_sum_of(leaves, first + size / 2, size / 2, right_absent);
  if (left_absent) return right;
  return right_absent ? left : left + right;
}

struct TreeCase {
  std::vector<int32_t> offsets = {0};
  std::vector<int32_t> rows;
  std::vector<int32_t> keys;
  TreeSumBatch batch() const {
    return {static_cast<int>(offsets.size()) - 1, offsets.data(), rows.data(), keys.data()};
  }
};

TEST_P(RowsTest, TreeSumFollowsTheTreeBitForBit) {
  const auto ops = make_ops(2);
  Random random(4);
  constexpr int64_t kWidth = 300;
  for (int round = 0; round < 50; ++round) {
    FloatMatrix in = random.floats(40, kWidth);
    TreeCase tree;
    for (int r = 0; r < 6; ++r) {
      std::map<int, int> chosen;  // expert -> row
      for (int i = random.below(10); i > 0; --i) chosen[random.below(128)] = random.below(40);
      for (const auto& [expert, row] : chosen) {
        tree.keys.push_back(expert);
        tree.rows.push_back(row);
      }
      tree.offsets.push_back(static_cast<int32_t>(tree.keys.size()));
    }
    FloatMatrix out(6, kWidth);
    ops->tree_sum(in.view(), tree.batch(), out.view());
    for (int r = 0; r < 6; ++r) {
      for (int64_t col = 0; col < kWidth; col += 37) {
        std::map<int, float> leaves;
        for (int i = tree.offsets[static_cast<size_t>(r)];
             i < tree.offsets[static_cast<size_t>(r) + 1]; ++i) {
          leaves[tree.keys[static_cast<size_t>(i)]] =
              in.row(tree.rows[static_cast<size_t>(i)])[col];
        }
        bool is_absent = false;
        ASSERT_EQ(out.row(r)[col], tree_sum_of(leaves, 0, 128, is_absent));
      }
    }
  }
}

// Two ranks sum their halves, the source joins the halves: the same bits as one rank.
TEST_P(RowsTest, TreeSumOfPartialSumsIsTheSame) {
  const auto ops = make_ops();
  Random random(5);
  FloatMatrix in = random.floats(8, 64);
  const std::vector<int32_t> keys = {3, 9, 17, 31, 64, 65, 90, 127};
  const std::vector<int32_t> rows = {0, 1, 2, 3, 4, 5, 6, 7};
  const std::vector<int32_t> whole_offsets = {0, 8};
  FloatMatrix whole(1, 64);
  ops->tree_sum(in.view(), {1, whole_offsets.data(), rows.data(), keys.data()}, whole.view());

  const std::vector<int32_t> half_offsets = {0, 4, 8};
  FloatMatrix halves(2, 64);
  ops->tree_sum(in.view(), {2, half_offsets.data(), rows.data(), keys.data()}, halves.view());
  const std::vector<int32_t> half_keys = {0, 64};
  const std::vector<int32_t> join_offsets = {0, 2};
  FloatMatrix joined(1, 64);
  ops->tree_sum(halves.view(), {1, join_offsets.data(), rows.data(), half_keys.data()},
                joined.view());
  EXPECT_TRUE(same_bits(whole, joined));

  // The control: one leaf counted to the wrong half gives other bits.
  const std::vector<int32_t> wrong_offsets = {0, 3, 8};
  ops->tree_sum(in.view(), {2, wrong_offsets.data(), rows.data(), keys.data()}, halves.view());
  ops->tree_sum(halves.view(), {1, join_offsets.data(), rows.data(), half_keys.data()},
                joined.view());
  EXPECT_FALSE(same_bits(whole, joined));
}

BERYL_INSTANTIATE_FOR_ISAS(RowsTest);

}  // namespace
}  // namespace beryl::kernels
