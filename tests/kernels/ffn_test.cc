// Dense MLP and experts.
#include "tests/kernels/test_util.h"

namespace beryl::kernels {
namespace {

constexpr double kTolerance = 4e-6;

struct Experts {
  int num_experts;
  int64_t hidden;
  int64_t width;
  WeightMatrix gate_up;  // [num_experts * 2 * width, hidden]
  WeightMatrix down;     // [num_experts * hidden, width]

  ExpertWeights view() {
    ExpertWeights weights;
    weights.gate_up_proj = {
        gate_up.data.data(), DType::kBFloat16, {num_experts, 2 * width, hidden}};
    weights.down_proj = {down.data.data(), DType::kBFloat16, {num_experts, hidden, width}};
    return weights;
  }
  reference::Matrix exact_rows(const WeightMatrix& m, int64_t begin, int64_t end) const {
    WeightMatrix part{end - begin, m.num_cols, {}};
    part.data.assign(m.data.begin() + begin * m.num_cols, m.data.begin() + end * m.num_cols);
    return part.exact();
  }
  reference::Matrix expected(int e, const reference::Matrix& x) const {
    const int64_t first = e * 2 * width;
    return reference::gated_mlp(exact_rows(gate_up, first, first + width),
                                exact_rows(gate_up, first + width, first + 2 * width),
                                exact_rows(down, e * hidden, (e + 1) * hidden), x);
  }
};

Experts make_experts(Random& random, int num_experts, int64_t hidden, int64_t width) {
  return {num_experts, hidden, width, random.weights(num_experts * 2 * width, hidden, 0.1f),
          random.weights(num_experts * hidden, width, 0.1f)};
}

// Which rows go to which expert, sorted by expert.
struct Assignments {
  std::vector<int32_t> offsets;
  std::vector<int32_t> rows;
  std::vector<float> weights;
  ExpertBatch view() const {
    return {static_cast<int>(rows.size()), offsets.data(), rows.data(), weights.data()};
  }
};

Assignments assign(Random& random, const std::vector<std::vector<int32_t>>& rows_of_expert) {
  Assignments result;
  result.offsets.push_back(0);
  for (const auto& rows : rows_of_expert) {
    for (const int32_t row : rows) {
      result.rows.push_back(row);
      result.weights.push_back(std::abs(random.normal()) + 0.1f);
    }
    result.offsets.push_back(static_cast<int32_t>(result.rows.size()));
  }
  return result;
}

class FfnTest : public IsaTest {
 protected:
  static FloatMatrix run(Ops& ops, Experts& experts, FloatMatrix& x, const Assignments& a) {
    FloatMatrix out(static_cast<int64_t>(a.rows.size()), experts.hidden);
    ops.expert_ffn(experts.view(), x.view(), a.view(), out.view());
    return out;
  }
  static void expect_correct(const Experts& experts, const FloatMatrix& x, const Assignments& a,
                             const FloatMatrix& out) {
    for (int e = 0; e < experts.num_experts; ++e) {
      for (int32_t i = a.offsets[static_cast<size_t>(e)]; i < a.offsets[static_cast<size_t>(e) + 1];
           ++i) {
        const int32_t row = a.rows[static_cast<size_t>(i)];
        reference::Matrix expected = experts.expected(e, x.rows(row, row + 1).exact());
        for (double& value : expected.data) value *= double{a.weights[static_cast<size_t>(i)]};
        EXPECT_LT(relative_error(out.rows(i, i + 1), expected), kTolerance);
      }
    }
  }
};

TEST_P(FfnTest, DenseAgreesWithTheReference) {
  const auto ops = make_ops(2);
  Random random(1);
  for (const int64_t width : {48, 72, 96, 201}) {
    WeightMatrix gate = random.weights(width, 136, 0.1f);
    WeightMatrix up = random.weights(width, 136, 0.1f);
    WeightMatrix down = random.weights(136, width, 0.1f);
    const GatedMlpWeights weights = {gate.view(), up.view(), down.view()};
    FloatMatrix all = random.floats(65, 136);
    FloatMatrix all_out(65, 136);
    ops->gated_mlp(weights, all.view(), all_out.view());
    EXPECT_LT(relative_error(all_out, reference::gated_mlp(gate.exact(), up.exact(), down.exact(),
                                                           all.exact())),
              kTolerance);
    for (const int64_t rows : {0, 1, 3}) {
      FloatMatrix x = all.rows(10, 10 + rows);
      FloatMatrix out(rows, 136);
      make_ops(1)->gated_mlp(weights, x.view(), out.view());
      EXPECT_TRUE(same_bits(out, all_out.rows(10, 10 + rows))) << rows << " rows, width " << width;
    }
  }
}

TEST_P(FfnTest, ExpertsAgreeWithTheReference) {
  const auto ops = make_ops(2);
  Random random(2);
  Experts experts = make_experts(random, 6, 128, 48);
  FloatMatrix x = random.floats(9, 128);
  // Expert 1 has no row, expert 2 all of them.
  const Assignments a = assign(random, {{0, 3}, {}, {0, 1, 2, 3, 4, 5, 6, 7, 8}, {8}, {}, {2, 5}});
  expect_correct(experts, x, a, run(*ops, experts, x, a));
}

TEST_P(FfnTest, AllRowsMayGoToOneExpertOrToNone) {
  const auto ops = make_ops(2);
  Random random(3);
  Experts experts = make_experts(random, 3, 64, 96);
  FloatMatrix x = random.floats(40, 64);
  std::vector<int32_t> rows(40);
  for (int32_t i = 0; i < 40; ++i) rows[static_cast<size_t>(i)] = i;
  const Assignments a = assign(random, {{}, {}, rows});
  expect_correct(experts, x, a, run(*ops, experts, x, a));
  FloatMatrix none(0, 64);
  const Assignments no_rows = assign(random, {{}, {}, {}});
  EXPECT_EQ(run(*ops, experts, none, no_rows).num_rows, 0);
}

TEST_P(FfnTest, AnExpertRowDependsOnNothingElse) {
  Random random(4);
  Experts experts = make_experts(random, 4, 704, 200);
  FloatMatrix x = random.floats(70, 704);
  std::vector<std::vector<int32_t>> rows_of_expert(4);
  for (int32_t row = 0; row < 70; ++row) {
    for (int e = 0; e < 4; ++e) {
      if (random.below(3) > 0) rows_of_expert[static_cast<size_t>(e)].push_back(row);
    }
  }
  const Assignments a = assign(random, rows_of_expert);
  const FloatMatrix all = run(*make_ops(1), experts, x, a);
  EXPECT_TRUE(same_bits(all, run(*make_ops(2), experts, x, a)));
  EXPECT_TRUE(same_bits(all, run(*make_ops(3), experts, x, a)));
  for (int32_t i = 0; i < static_cast<int32_t>(a.rows.size()); i += 7) {
    Assignments one;
    for (const int32_t offset : a.offsets) one.offsets.push_back(offset > i ? 1 : 0);
    one.rows = {a.rows[static_cast<size_t>(i)]};
    one.weights = {a.weights[static_cast<size_t>(i)]};
    EXPECT_TRUE(same_bits(run(*make_ops(2), experts, x, one), all.rows(i, i + 1)));
  }
}

BERYL_INSTANTIATE_FOR_ISAS(FfnTest);

}  // namespace
}  // namespace beryl::kernels
