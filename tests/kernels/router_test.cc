#include "tests/kernels/test_util.h"

namespace beryl::kernels {
namespace {

constexpr float kEps = 1e-6f;

struct Router {
  WeightMatrix proj;
  WeightMatrix scale;
  WeightMatrix per_expert_scale;
  RouterWeights view() {
    return {proj.view(), scale.vector_view(), per_expert_scale.vector_view()};
  }
};

struct Chosen {
  std::vector<int32_t> idx;
  FloatMatrix weights;
};

class RouterTest : public IsaTest {
 protected:
  static Chosen route(Ops& ops, Router& router, FloatMatrix x, int64_t top_k) {
    Chosen chosen;
    chosen.idx.resize(static_cast<size_t>(x.num_rows * top_k));
    chosen.weights = FloatMatrix(x.num_rows, top_k);
    ops.route(router.view(), x.view(), kEps,
              {chosen.idx.data(), DType::kInt32, {x.num_rows, top_k}}, chosen.weights.view());
    return chosen;
  }
};

Router make_router(Random& random, int64_t num_experts, int64_t hidden) {
  return {random.weights(num_experts, hidden, 1), random.gains(hidden), random.gains(num_experts)};
}

TEST_P(RouterTest, AgreesWithTheReference) {
  const auto ops = make_ops(2);
  Random random(1);
  for (const int64_t num_experts : {16, 128}) {
    Router router = make_router(random, num_experts, 200);
    const int top_k = num_experts == 16 ? 4 : 8;
    const FloatMatrix x = random.floats(65, 200);
    const Chosen chosen = route(*ops, router, x, top_k);
    reference::Matrix u = reference::rms_norm(x.exact(), router.scale.exact().data, kEps);
    for (double& value : u.data) value /= std::sqrt(200.0);
    const reference::Matrix scores = reference::linear(u, router.proj.exact());
    for (int64_t t = 0; t < 65; ++t) {
      const reference::Vector row(scores.data.begin() + t * num_experts,
                                  scores.data.begin() + (t + 1) * num_experts);
      const reference::Routing expected =
          reference::route(row, top_k, router.per_expert_scale.exact().data);
      for (int i = 0; i < top_k; ++i) {
        const auto k = static_cast<size_t>(i);
        EXPECT_EQ(chosen.idx[static_cast<size_t>(t * top_k + i)], expected.topk_idx[k]);
        EXPECT_NEAR(chosen.weights.row(t)[i], expected.topk_weights[k], 1e-5);
      }
    }
    EXPECT_TRUE(same_bits(route(*make_ops(1), router, x.rows(7, 8), top_k).weights,
                          chosen.weights.rows(7, 8)));
  }
}

TEST_P(RouterTest, TiesGoToTheSmallerExpert) {
  Random random(2);
  Router router = make_router(random, 12, 64);
  // Experts 3 … 11 are copies of expert 2.
  for (int64_t e = 3; e < 12; ++e) {
    std::copy(router.proj.data.begin() + 2 * 64, router.proj.data.begin() + 3 * 64,
              router.proj.data.begin() + e * 64);
  }
  const FloatMatrix x = random.floats(20, 64);
  const Chosen chosen = route(*make_ops(), router, x, 4);
  for (size_t t = 0; t < 20; ++t) {
    int32_t last = 1;
    for (size_t i = 0; i < 4; ++i) {
      const int32_t e = chosen.idx[t * 4 + i];
      if (e < 2) continue;
      EXPECT_EQ(e, last + 1);
      last = e;
    }
  }
}

TEST_P(RouterTest, ANanRowStillNamesValidExperts) {
  Random random(3);
  Router router = make_router(random, 16, 64);
  FloatMatrix x = random.floats(3, 64);
  x.row(1)[5] = NAN;
  const Chosen chosen = route(*make_ops(), router, x, 4);
  for (const int32_t e : chosen.idx) EXPECT_TRUE(e >= 0 && e < 16);
  EXPECT_TRUE(std::isnan(chosen.weights.row(1)[0]));
  EXPECT_FALSE(std::isnan(chosen.weights.row(2)[0]));
}

BERYL_INSTANTIATE_FOR_ISAS(RouterTest);

}  // namespace
}  // namespace beryl::kernels
