// Sampling against the CPU back end: the same tokens from the same logits and seeds.
#include <limits>

#include "tests/kernels/cuda/device_test.h"

namespace beryl::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

class CudaSamplingTest : public CudaTest {
 protected:
  // Both back ends on the same rows, all with the logits given.
  struct Both {
    std::vector<SampledToken> device, host;
  };
  Both sample(const FloatMatrix& logits, const std::vector<SamplingRow>& rows) {
    const int count = static_cast<int>(rows.size());
    Both both;
    FloatMatrix copy = logits;
    both.host.resize(rows.size());
    cpu().sample(copy.view(), {rows.data(), count}, both.host.data());
    const DeviceTensor device_logits = on_device(logits);
    const DeviceArray<SampledToken> sampled(ops(), std::vector<SampledToken>(rows.size()));
    ops().sample(device_logits.view(), {rows.data(), count}, sampled.data());
    both.device = sampled.values();
    return both;
  }
  static FloatMatrix repeat(const std::vector<float>& logits, size_t count) {
    FloatMatrix rows(static_cast<int64_t>(count), static_cast<int64_t>(logits.size()));
    for (size_t i = 0; i < count; ++i) {
      std::copy(logits.begin(), logits.end(), rows.row(static_cast<int64_t>(i)));
    }
    return rows;
  }
  static size_t vocab() { return kIsEmulated ? 3000 : 262144; }
};

TEST_F(CudaSamplingTest, DrawsTheTokensOfTheCpu) {
  const std::vector<SamplingRow> kinds = {
      {.temperature = 0},
      {},
      {.temperature = 0.6f},
      {.top_k = 64, .top_p = 0.95f},
      {.top_k = 1},
      {.top_k = 7, .min_p = 0.2f},
      {.temperature = 1.7f, .top_p = 0.8f},
      {.top_p = 1e-6f},
      {.temperature = 2, .min_p = 0.05f},
      {.top_p = 0.97f, .min_p = 0.01f},
      {.top_k = 1 << 30},
      {.min_p = 1},
  };
  for (const float scale : {0.3f, 4.0f}) {
    const std::vector<float> logits = Random(1).logits(vocab(), scale);
    int num_drawn = 0;
    int num_different = 0;
    for (const SamplingRow& kind : kinds) {
      std::vector<SamplingRow> rows(kIsEmulated ? 4 : 40, kind);
      for (size_t i = 0; i < rows.size(); ++i) {
        rows[i].seed = 17 + i % 3;
        rows[i].choice = static_cast<uint32_t>(i % 2);
        rows[i].position = static_cast<uint32_t>(i);
      }
      const Both both = sample(repeat(logits, rows.size()), rows);
      for (size_t i = 0; i < rows.size(); ++i) {
        ++num_drawn;
        num_different += both.device[i].token_id != both.host[i].token_id;
        if (kind.temperature == 0) {
          EXPECT_EQ(both.device[i].token_id, both.host[i].token_id);
        }
      }
    }
    // Masses of both differ by rounding: a random number may fall between two borders.
    EXPECT_LE(num_different, num_drawn / 100) << "logits of scale " << scale;
  }
}

// Searches among a few sorted candidates, a list, and the whole row; segments of one unit and more,
// and rows that end within one.
TEST_F(CudaSamplingTest, EverySearchFindsTheTokensOfTheCpu) {
  const std::vector<SamplingRow> kinds = {
      {.top_k = 64, .top_p = 0.95f, .num_top_logprobs = 20},
      {.top_k = 1},
      {.top_k = 900, .min_p = 0.001f},
      {.top_k = 2000, .top_p = 0.9f},
      {.top_p = 0.7f, .num_top_logprobs = 1},
      {.top_p = 0.9f, .min_p = 0.03f},
      {.temperature = 0, .num_top_logprobs = 20},
      {},
  };
  std::vector<size_t> sizes = {1, 5, 255, 257, 20011};
  if (!kIsEmulated) sizes.insert(sizes.end(), {262144, 300001, 2000000});
  int num_drawn = 0;
  int num_different = 0;
  for (const size_t size : sizes) {
    // Peaked; nearly flat, so that one bucket holds thousands of tokens; all equal.
    for (const float scale : {4.0f, 0.002f, 0.0f}) {
      const std::vector<float> logits = Random(4).logits(size, scale);
      std::vector<SamplingRow> rows;
      for (size_t i = 0; i < (kIsEmulated ? 1 : 4) * kinds.size(); ++i) {
        rows.push_back(kinds[i % kinds.size()]);
        rows.back().seed = i;
      }
      const Both both = sample(repeat(logits, rows.size()), rows);
      for (size_t i = 0; i < rows.size(); ++i) {
        const SampledToken& device = both.device[i];
        const SampledToken& host = both.host[i];
        ++num_drawn;
        // Millions of masses differ by rounding: the draw may meet a neighbour, by id or by logit.
        const auto logit = [&](int32_t id) { return logits[static_cast<size_t>(id)]; };
        num_different += std::abs(device.token_id - host.token_id) > 3 &&
                         std::abs(logit(device.token_id) - logit(host.token_id)) > 1e-6f * scale;
        if (rows[i].temperature == 0) {
          EXPECT_EQ(device.token_id, host.token_id);
        }
        ASSERT_EQ(device.num_top, host.num_top) << size << " tokens, row " << i;
        for (int t = 0; t < host.num_top; ++t) {
          EXPECT_EQ(device.top[t].token_id, host.top[t].token_id) << size << " tokens, row " << i;
          EXPECT_NEAR(device.top[t].logprob, host.top[t].logprob, 1e-4);
        }
      }
    }
  }
  EXPECT_LE(num_different, num_drawn / 50);
}

// The control for the comparisons above: another seed draws other tokens.
TEST_F(CudaSamplingTest, ComparisonSeesAnotherSeed) {
  const std::vector<float> logits = Random(2).logits(500, 0.3f);
  std::vector<SamplingRow> rows(20);
  for (size_t i = 0; i < rows.size(); ++i) rows[i].position = static_cast<uint32_t>(i);
  const Both one = sample(repeat(logits, 20), rows);
  for (SamplingRow& row : rows) row.seed = 1;
  const Both other = sample(repeat(logits, 20), rows);
  int num_equal = 0;
  for (size_t i = 0; i < 20; ++i) num_equal += one.device[i].token_id == other.host[i].token_id;
  EXPECT_LT(num_equal, 10);
}

TEST_F(CudaSamplingTest, LogprobsPenaltiesAndBiasesAgree) {
  const std::vector<float> logits = Random(3).logits(vocab(), 3);
  const std::vector<TokenCount> counts = {{0, 0}, {1, 2}, {2000, 3}};
  const std::vector<TokenBias> biases = {{3, -kInfinity}, {4, 8.5f}, {9, -2}, {3, 1}};
  SamplingRow row;
  row.temperature = 0;
  row.repetition_penalty = 1.3f;
  row.presence_penalty = 0.5f;
  row.frequency_penalty = 0.25f;
  row.num_top_logprobs = 20;
  row.counts = counts.data();
  row.num_counts = 3;
  row.biases = biases.data();
  row.num_biases = 4;
  std::vector<SamplingRow> rows(3, row);
  rows[1].counts = nullptr;
  rows[1].num_counts = 0;
  rows[2].num_top_logprobs = 0;
  const Both both = sample(repeat(logits, 3), rows);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(both.device[i].token_id, both.host[i].token_id);
    EXPECT_NEAR(both.device[i].logprob, both.host[i].logprob, 1e-4);
    ASSERT_EQ(both.device[i].num_top, both.host[i].num_top);
    for (int t = 0; t < both.host[i].num_top; ++t) {
      EXPECT_EQ(both.device[i].top[t].token_id, both.host[i].top[t].token_id) << t;
      EXPECT_NEAR(both.device[i].top[t].logprob, both.host[i].top[t].logprob, 1e-4);
    }
  }
}

TEST_F(CudaSamplingTest, TiesGoToTheSmallerId) {
  std::vector<float> logits(1000, 1.0f);
  logits[700] = logits[333] = 2;
  const Both both =
      sample(repeat(logits, 2), {{.temperature = 0}, {.top_k = 5, .num_top_logprobs = 5}});
  EXPECT_EQ(both.device[0].token_id, 333);
  const std::vector<int32_t> order = {333, 700, 0, 1, 2};
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(both.device[1].top[i].token_id, order[i]);
  EXPECT_EQ(both.device[1].token_id, both.host[1].token_id);
}

TEST_F(CudaSamplingTest, BrokenAndForbiddenRowsAreFlagged) {
  FloatMatrix logits(5, 101);
  logits.row(0)[100] = NAN;
  logits.row(1)[0] = kInfinity;
  std::fill(logits.row(2), logits.row(3), -kInfinity);
  std::fill(logits.row(3), logits.row(3) + 100, -kInfinity);
  std::vector<SamplingRow> rows(5);
  rows[2].num_top_logprobs = 3;
  rows[3].num_top_logprobs = 3;
  const Both both = sample(logits, rows);
  EXPECT_TRUE(both.device[0].has_nan);
  EXPECT_TRUE(both.device[1].has_nan);
  EXPECT_TRUE(both.device[2].all_forbidden);
  EXPECT_EQ(both.device[2].token_id, -1);
  EXPECT_EQ(both.device[3].token_id, 100);
  EXPECT_EQ(both.device[3].num_top, 1);
  EXPECT_FALSE(both.device[4].has_nan || both.device[4].all_forbidden);
}

}  // namespace
}  // namespace beryl::kernels
