// One rank on a device: the same sums however many passes a step takes.
#include "parallel/expert/local_experts.h"

#include <gtest/gtest.h>

#include <vector>

#include "kernels/cpu/cpu_ops.h"
#include "tests/parallel/expert/exchange_world.h"

namespace beryl::expert {
namespace {

using kernels::DType;
using kernels::TensorView;

constexpr LayerShape kShape{16, 4, 32, Routing::kSparse};
constexpr int kRows = 30;

struct Outcome {
  std::vector<float> out;
  std::vector<uint64_t> load;
};

Outcome run(RankTokens& tokens, int max_pass_rows, int skipped_expert = -1) {
  const auto ops = kernels::cpu::make_cpu_ops({});
  const Placement placement = Placement::contiguous(kShape.num_experts, 1);
  LocalExperts experts(
      *ops, placement,
      {.hidden_size = kShape.hidden_size, .top_k = kShape.top_k, .max_rows = kRows}, max_pass_rows);
  RoutedRows rows;
  rows.x = {tokens.x.data(), DType::kFloat32, {kRows, kShape.hidden_size}};
  rows.topk_idx = {tokens.ids.data(), DType::kInt32, {kRows, kShape.top_k}};
  rows.topk_weights = {tokens.weights.data(), DType::kFloat32, {kRows, kShape.top_k}};
  Outcome outcome;
  outcome.out.assign(tokens.x.size(), -7);
  const kernels::TensorView out(outcome.out.data(), DType::kFloat32, {kRows, kShape.hidden_size});
  experts.run(rows, made_up_experts(placement, 0, skipped_expert),
              [&](const kernels::TensorView& results, const kernels::TreeSumBatch& batch,
                  int64_t first_row) {
                ops->tree_sum(results, batch, out.rows(first_row, batch.num_rows));
              });
  outcome.load = experts.load();
  return outcome;
}

TEST(LocalExpertsTest, SumsDoNotDependOnTheRowsOfAPass) {
  RankTokens tokens = make_tokens(kShape, kRows, 5);
  const std::vector<float> wanted = plain_answer(kShape, tokens);
  const Outcome whole = run(tokens, kRows);
  EXPECT_EQ(count_wrong_rows(wanted, whole.out, kShape.hidden_size), 0);
  for (const int pass_rows : {1, 7, 15, 29}) {
    const Outcome parts = run(tokens, pass_rows);
    EXPECT_EQ(count_wrong_rows(wanted, parts.out, kShape.hidden_size), 0) << pass_rows;
    EXPECT_EQ(parts.load, whole.load) << pass_rows;
  }
}

TEST(LocalExpertsTest, TheComparisonNoticesAnExpertThatIsLeftOut) {
  RankTokens tokens = make_tokens(kShape, kRows, 5);
  const std::vector<float> wanted = plain_answer(kShape, tokens);
  EXPECT_GT(count_wrong_rows(wanted, run(tokens, 7, 3).out, kShape.hidden_size), 0);
}

TEST(LocalExpertsTest, MemoryFollowsTheRowsOfAPass) {
  const ExchangeLimits limits{.hidden_size = 2816, .top_k = 8, .max_rows = 8192};
  const size_t whole = LocalExperts::num_bytes(128, limits, 8192);
  const size_t half = LocalExperts::num_bytes(128, limits);
  EXPECT_GT(whole, size_t{8192} * 8 * 2816 * 4);
  EXPECT_NEAR(static_cast<double>(half) / static_cast<double>(whole), 0.5, 0.01);
}

}  // namespace
}  // namespace beryl::expert
