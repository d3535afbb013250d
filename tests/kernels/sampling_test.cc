#include <limits>
#include <set>

#include "kernels/random.h"
#include "tests/kernels/test_util.h"

namespace beryl::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

class SamplingTest : public IsaTest {
 protected:
  static SampledToken sample(std::vector<float> logits, const SamplingRow& row) {
    SampledToken sampled;
    const auto vocab_size = static_cast<int64_t>(logits.size());
    make_ops()->sample({logits.data(), DType::kFloat32, {1, vocab_size}}, {&row, 1}, &sampled);
    return sampled;
  }
  // How often each token is drawn over `count` positions.
  static std::vector<int> histogram(const std::vector<float>& logits, const SamplingRow& row,
                                    int count) {
    const auto ops = make_ops(2);
    FloatMatrix rows(count, static_cast<int64_t>(logits.size()));
    std::vector<SamplingRow> params(static_cast<size_t>(count), row);
    for (int i = 0; i < count; ++i) {
      std::copy(logits.begin(), logits.end(), rows.row(i));
      params[static_cast<size_t>(i)].position = static_cast<uint32_t>(i);
    }
    std::vector<SampledToken> sampled(params.size());
    ops->sample(rows.view(), {params.data(), count}, sampled.data());
    std::vector<int> counts(logits.size());
    for (const SampledToken& token : sampled) ++counts[static_cast<size_t>(token.token_id)];
    return counts;
  }
};

TEST_P(SamplingTest, GreedyTakesTheFirstOfTheLargest) {
  SamplingRow row;
  row.temperature = 0;
  EXPECT_EQ(sample({1, 5, 2, 5, 5}, row).token_id, 1);
  std::vector<float> many(1003, -1);
  many[1002] = 3;
  EXPECT_EQ(sample(many, row).token_id, 1002);
}

TEST_P(SamplingTest, DrawsFollowTheDistribution) {
  const std::vector<float> logits = Random(1).logits(50, 1.5f);
  const reference::Vector exact(logits.begin(), logits.end());
  std::vector<SamplingRow> rows(6);
  rows[1].temperature = 0.6f;
  rows[2].top_k = 7;
  rows[3].top_p = 0.8f;
  rows[4].min_p = 0.1f;
  rows[5] = {.temperature = 1.3f, .top_k = 20, .top_p = 0.9f, .min_p = 0.05f};
  constexpr int kDraws = 6000;
  for (SamplingRow& row : rows) {
    row.seed = 42;
    const reference::Vector p =
        reference::sampling_distribution(exact, {row.temperature, row.top_k, row.top_p, row.min_p});
    const std::vector<int> counts = histogram(logits, row, kDraws);
    double chi_square = 0;
    int num_possible = 0;
    for (size_t id = 0; id < p.size(); ++id) {
      if (p[id] == 0) {
        EXPECT_EQ(counts[id], 0) << id;
        continue;
      }
      ++num_possible;
      const double expected = p[id] * kDraws;
      chi_square += (counts[id] - expected) * (counts[id] - expected) / expected;
    }
    // Mean num_possible - 1, standard deviation sqrt of twice that: five of them.
    const double freedom = num_possible - 1;
    EXPECT_LT(chi_square, freedom + 5 * std::sqrt(2 * freedom));
  }
}

// Which tokens can be drawn at all, from a vocabulary too large to sort, found by many draws from a
// flat distribution: the smallest set that holds top_p.
TEST_P(SamplingTest, TopPKeepsTheSmallestSet) {
  for (const double top_p : {0.01, 0.3, 0.97}) {
    const std::vector<float> logits = Random(7).logits(400, 0.3f);
    SamplingRow row;
    row.top_p = static_cast<float>(top_p);
    const reference::Vector p =
        reference::sampling_distribution({logits.begin(), logits.end()}, {1, 0, row.top_p, 0});
    const std::vector<int> counts = histogram(logits, row, 15000);
    for (size_t id = 0; id < p.size(); ++id) EXPECT_EQ(counts[id] > 0, p[id] > 0) << id;
  }
}

TEST_P(SamplingTest, TinyTopPAndTopKOneAreGreedy) {
  const std::vector<float> logits = Random(3).logits(5000, 2);
  SamplingRow greedy;
  greedy.temperature = 0;
  const int32_t best = sample(logits, greedy).token_id;
  SamplingRow row;
  row.top_p = 1e-6f;
  EXPECT_EQ(sample(logits, row).token_id, best);
  row.top_p = 1;
  row.top_k = 1;
  EXPECT_EQ(sample(logits, row).token_id, best);
  row.top_k = 0;
  row.min_p = 1;
  EXPECT_EQ(sample(logits, row).token_id, best);
}

TEST_P(SamplingTest, ADrawDependsOnSeedChoiceAndPositionOnly) {
  const std::vector<float> logits = Random(4).logits(3000, 1);
  SamplingRow row;
  row.seed = 5;
  row.choice = 1;
  row.position = 77;
  const int32_t alone = sample(logits, row).token_id;
  // In a batch, at another place, with other threads.
  FloatMatrix rows(5, 3000);
  for (int i = 0; i < 5; ++i) std::copy(logits.begin(), logits.end(), rows.row(i));
  std::vector<SamplingRow> params(5, row);
  for (size_t i = 0; i < 4; ++i) params[i].seed = i;
  std::vector<SampledToken> sampled(5);
  make_ops(3)->sample(rows.view(), {params.data(), 5}, sampled.data());
  EXPECT_EQ(sampled[4].token_id, alone);
  // The control: each of the three changes the draw.
  std::set<int32_t> drawn;
  for (int i = 0; i < 3; ++i) {
    SamplingRow other = row;
    if (i == 0) other.seed = 6;
    if (i == 1) other.choice = 2;
    if (i == 2) other.position = 78;
    drawn.insert(sample(logits, other).token_id);
  }
  drawn.insert(alone);
  EXPECT_GE(drawn.size(), 3u);
}

TEST_P(SamplingTest, PenaltiesAndBiasesMoveLogits) {
  SamplingRow row;
  row.temperature = 0;
  row.repetition_penalty = 2;
  row.presence_penalty = 0.5f;
  row.frequency_penalty = 0.25f;
  row.num_top_logprobs = 5;
  const std::vector<TokenCount> counts = {{0, 0}, {1, 2}, {2, 3}};
  const std::vector<TokenBias> biases = {{3, -kInfinity}, {4, 1.5f}};
  row.counts = counts.data();
  row.num_counts = 3;
  row.biases = biases.data();
  row.num_biases = 2;
  // 4 / 2; 4 / 2 - 1; -2 * 2 - 1.25; forbidden; 0 + 1.5.
  const std::vector<double> expected = {2, 1, -5.25, -kInfinity, 1.5};
  const SampledToken sampled = sample({4, 4, -2, 9, 0}, row);
  double total = 0;
  for (const double value : expected) total += std::exp(value);
  EXPECT_EQ(sampled.token_id, 0);
  EXPECT_NEAR(sampled.logprob, 2 - std::log(total), 1e-6);
  ASSERT_EQ(sampled.num_top, 4);  // a forbidden token has no log-probability to report
  const std::vector<int32_t> order = {0, 4, 1, 2};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(sampled.top[i].token_id, order[i]);
    EXPECT_NEAR(sampled.top[i].logprob, expected[static_cast<size_t>(order[i])] - std::log(total),
                1e-6);
  }
}

TEST_P(SamplingTest, ForbiddenTokensAreNeverDrawn) {
  std::vector<float> logits(100, 0);
  std::vector<TokenBias> biases;
  for (int32_t id = 0; id < 100; id += 2) biases.push_back({id, -kInfinity});
  SamplingRow row;
  row.biases = biases.data();
  row.num_biases = static_cast<int32_t>(biases.size());
  for (const float top_p : {1.0f, 0.9f}) {
    for (const int32_t top_k : {0, 80}) {
      row.top_p = top_p;
      row.top_k = top_k;
      const std::vector<int> counts = histogram(logits, row, 500);
      for (size_t id = 0; id < 100; id += 2) EXPECT_EQ(counts[id], 0);
    }
  }
}

TEST_P(SamplingTest, BrokenRowsAreFlagged) {
  for (const size_t place : {size_t{0}, size_t{13}, size_t{100}}) {
    std::vector<float> logits(101, 0);
    logits[place] = NAN;
    EXPECT_TRUE(sample(logits, {}).has_nan);
    logits[place] = kInfinity;
    EXPECT_TRUE(sample(logits, {}).has_nan);
    logits[place] = 0;
    EXPECT_FALSE(sample(logits, {}).has_nan);
  }
  const SampledToken none = sample(std::vector<float>(9, -kInfinity), {.num_top_logprobs = 3});
  EXPECT_TRUE(none.all_forbidden);
  EXPECT_FALSE(none.has_nan);
  EXPECT_EQ(none.token_id, -1);
}

TEST_P(SamplingTest, LogprobsAreLimitedByTheVocabulary) {
  SamplingRow row;
  row.num_top_logprobs = 20;
  const SampledToken sampled = sample({0, 1, 2}, row);
  EXPECT_EQ(sampled.num_top, 3);
  EXPECT_EQ(sampled.top[0].token_id, 2);
  row.num_top_logprobs = -1;
  EXPECT_EQ(sample({0, 1, 2}, row).num_top, 0);
}

TEST_P(SamplingTest, TheFullVocabularyAgreesWithAFullSort) {
  const std::vector<float> logits = Random(11).logits(262144, 3);
  SamplingRow row;
  row.num_top_logprobs = 20;
  row.temperature = 0;
  const SampledToken sampled = sample(logits, row);
  std::vector<int32_t> order(logits.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  std::partial_sort(order.begin(), order.begin() + 20, order.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  double total = 0;
  for (const float value : logits) total += std::exp(double{value});
  for (size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(sampled.top[i].token_id, order[i]);
    const double logit = logits[static_cast<size_t>(order[i])];
    EXPECT_NEAR(sampled.top[i].logprob, logit - std::log(total), 1e-5);
  }
}

// Known answers of Philox 4x32-10 (counter and key all ones; counter and key zero).
TEST(RandomTest, PhiloxGivesItsKnownAnswers) {
  const Philox4x32 zero = philox4x32(0, {{0, 0, 0, 0}});
  EXPECT_EQ(zero.value[0], 0x6627e8d5u);
  EXPECT_EQ(zero.value[1], 0xe169c58du);
  EXPECT_EQ(zero.value[2], 0xbc57ac4cu);
  EXPECT_EQ(zero.value[3], 0x9b00dbd8u);
  const Philox4x32 ones = philox4x32(~uint64_t{0}, {{~0u, ~0u, ~0u, ~0u}});
  EXPECT_EQ(ones.value[0], 0x408f276du);
  EXPECT_EQ(ones.value[1], 0x41c83b0eu);
  EXPECT_EQ(ones.value[2], 0xa20bc7c6u);
  EXPECT_EQ(ones.value[3], 0x6d5451fdu);
}

TEST(RandomTest, DrawsAreUniform) {
  double sum = 0;
  for (uint32_t i = 0; i < 10000; ++i) {
    const double u = uniform_draw(3, 0, i);
    ASSERT_TRUE(u >= 0 && u < 1);
    sum += u;
  }
  EXPECT_NEAR(sum / 10000, 0.5, 0.015);
}

BERYL_INSTANTIATE_FOR_ISAS(SamplingTest);

}  // namespace
}  // namespace beryl::kernels
