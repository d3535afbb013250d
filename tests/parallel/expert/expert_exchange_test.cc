#include "parallel/expert/expert_exchange.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <numeric>
#include <random>

#include "tests/parallel/comm/run_ranks.h"
#include "tests/parallel/expert/exchange_world.h"
#include "tests/parallel/expert/scalar_ops.h"

namespace beryl::expert {
namespace {

using Table = std::vector<std::vector<int32_t>>;

// Wrong rows over all ranks and layers.
int run_case(
    const ExchangeCase& test, const std::function<std::unique_ptr<ScalarOps>()>& make_ops = [] {
      return std::make_unique<ScalarOps>();
    }) {
  std::atomic<int> num_wrong = 0;
  const auto size = static_cast<int>(test.rank_rows.size());
  comm::run_local_ranks(size, {}, [&](std::unique_ptr<comm::Communicator>& communicator) {
    const auto ops = make_ops();
    const base::Expected<int> wrong = run_case_on_rank(test, *communicator, *ops);
    ASSERT_TRUE(wrong) << wrong.error().message;
    num_wrong += *wrong;
  });
  return num_wrong;
}

struct Setting {
  int size;
  StepMode mode;
};

class ExpertExchangeTest : public testing::TestWithParam<Setting> {
 protected:
  ExchangeCase make_case(LayerShape shape, Placement placement) const {
    ExchangeCase test{shape, std::move(placement), GetParam().mode, {}};
    test.rank_rows = unequal_rows(GetParam().size, test.max_rows, 5);
    return test;
  }
  ExchangeCase contiguous_case(LayerShape shape) const {
    return make_case(shape, Placement::contiguous(shape.num_experts, GetParam().size));
  }
};

TEST_P(ExpertExchangeTest, EveryRoutingMatchesOneRank) {
  for (const Routing routing :
       {Routing::kRandom, Routing::kSparse, Routing::kOneExpert, Routing::kLastExperts}) {
    for (const int num_experts : {16, 13, 5}) {  // 13 does not divide; 5 < 8 ranks
      const ExchangeCase test = contiguous_case({num_experts, 4, 20, routing});
      EXPECT_EQ(run_case(test), 0) << num_experts << " " << static_cast<int>(routing);
    }
  }
}

TEST_P(ExpertExchangeTest, TheModelsShapeOfRouting) {
  EXPECT_EQ(run_case(contiguous_case({128, 8, 12, Routing::kRandom})), 0);
}

TEST_P(ExpertExchangeTest, OneRoundForAllRows) {
  ExchangeCase test = contiguous_case({});
  test.round_capacity = test.max_rows;
  EXPECT_EQ(run_case(test), 0);
}

TEST_P(ExpertExchangeTest, NoRowsAnywhere) {
  ExchangeCase test = contiguous_case({});
  test.rank_rows.assign(test.rank_rows.size(), 0);
  EXPECT_EQ(run_case(test), 0);
}

TEST_P(ExpertExchangeTest, RowsOnOneRankOnly) {
  ExchangeCase test = contiguous_case({});
  test.rank_rows.assign(test.rank_rows.size(), 0);
  test.rank_rows.back() = test.max_rows;
  EXPECT_EQ(run_case(test), 0);
}

// Experts dealt like cards, so that no rank holds an aligned node.
TEST_P(ExpertExchangeTest, ScatteredPlacement) {
  Table table(static_cast<size_t>(GetParam().size));
  for (int expert = 15; expert >= 0; --expert) {
    table[static_cast<size_t>(expert) % table.size()].push_back(expert);
  }
  EXPECT_EQ(run_case(make_case({}, Placement::from_table(16, table).value())), 0);
}

// Hot experts 2 and 9 on every rank, the rest in random places.
TEST_P(ExpertExchangeTest, CopiesOfHotExperts) {
  std::mt19937_64 random(3);
  Table table(static_cast<size_t>(GetParam().size));
  for (int expert = 0; expert < 16; ++expert) {
    if (expert == 2 || expert == 9) {
      for (auto& local : table) local.push_back(expert);
    } else {
      table[random() % table.size()].push_back(expert);
    }
  }
  EXPECT_EQ(run_case(make_case({}, Placement::from_table(16, table).value())), 0);
}

TEST_P(ExpertExchangeTest, OneRankHoldsEverything) {
  Table table(static_cast<size_t>(GetParam().size));
  for (int expert = 0; expert < 16; ++expert) table.back().push_back(expert);
  EXPECT_EQ(run_case(make_case({}, Placement::from_table(16, table).value())), 0);
}

std::vector<Setting> all_settings() {
  std::vector<Setting> settings;
  for (const int size : {1, 2, 3, 4, 8}) {
    settings.push_back({size, StepMode::kExact});
    settings.push_back({size, StepMode::kPadded});
  }
  return settings;
}

INSTANTIATE_TEST_SUITE_P(Ranks, ExpertExchangeTest, testing::ValuesIn(all_settings()),
                         [](const testing::TestParamInfo<Setting>& info) {
                           const bool exact = info.param.mode == StepMode::kExact;
                           return std::to_string(info.param.size) + (exact ? "Exact" : "Padded");
                         });

// Adds leaves from first to last instead of in tree order.
class SequentialSumOps : public ScalarOps {
 public:
  void tree_sum(const TensorView& in, const kernels::TreeSumBatch& batch,
                const TensorView& out) override {
    const int64_t width = out.shape[1];
    for (int row = 0; row < batch.num_rows; ++row) {
      float* const sum = out.f32() + row * width;
      std::fill_n(sum, width, 0.0F);
      for (int i = batch.leaf_offsets[row]; i < batch.leaf_offsets[row + 1]; ++i) {
        const float* const leaf = in.f32() + batch.leaf_rows[i] * width;
        for (int64_t j = 0; j < width; ++j) sum[j] += leaf[j];
      }
    }
  }
};

TEST(ExpertExchangeFaultTest, PermutedSumIsCaught) {
  for (const int size : {1, 2}) {
    const ExchangeCase test{{16, 8, 20, Routing::kRandom},
                            Placement::contiguous(16, size),
                            StepMode::kExact,
                            unequal_rows(size, 30, 5)};
    EXPECT_EQ(run_case(test), 0);
    EXPECT_GT(run_case(test, [] { return std::make_unique<SequentialSumOps>(); }), 0);
  }
}

TEST(ExpertExchangeFaultTest, SkippedExpertIsCaught) {
  ExchangeCase test{{16, 8, 20, Routing::kRandom},
                    Placement::contiguous(16, 4),
                    StepMode::kExact,
                    unequal_rows(4, 30, 5)};
  test.skipped_expert = 11;
  EXPECT_GT(run_case(test), 0);
}

TEST(ExpertExchangeLoadTest, CountsTokensPerExpert) {
  auto group = comm::make_local_group(1);
  ScalarOps ops;
  const LayerShape shape{8, 2, 4, Routing::kSparse};
  const Placement placement = Placement::contiguous(8, 1);
  ExpertExchange exchange(*group[0], ops, placement, {4, 2, 10, 10});
  std::vector<uint64_t> wanted(8);
  for (uint64_t seed = 0; seed < 3; ++seed) {
    RankTokens tokens = make_tokens(shape, 10, seed);
    for (const int32_t id : tokens.ids) {
      if (id >= 0) ++wanted[static_cast<size_t>(id)];
    }
    const std::vector<int32_t> rank_rows{10};
    std::vector<float> out;
    ASSERT_TRUE(run_layer(exchange, shape, {StepMode::kPadded, 10, rank_rows}, tokens,
                          made_up_experts(placement, 0, -1), out));
  }
  EXPECT_EQ(std::vector<uint64_t>(exchange.load().begin(), exchange.load().end()), wanted);
}

TEST(ExpertExchangeLostPeerTest, EndsWithAnError) {
  const Placement placement = Placement::contiguous(8, 2);
  comm::run_local_ranks(2, {}, [&](std::unique_ptr<comm::Communicator>& communicator) {
    if (communicator->rank() == 1) {
      communicator.reset();
      return;
    }
    ScalarOps ops;
    const LayerShape shape{8, 2, 4, Routing::kRandom};
    ExpertExchange exchange(*communicator, ops, placement, {4, 2, 10, 10});
    RankTokens tokens = make_tokens(shape, 3, 1);
    const std::vector<int32_t> rank_rows{3, 0};
    std::vector<float> out;
    const base::Status status = run_layer(exchange, shape, {StepMode::kPadded, 4, rank_rows},
                                          tokens, made_up_experts(placement, 0, -1), out);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, base::ErrorCode::kUnavailable);
  });
}

}  // namespace
}  // namespace beryl::expert
