// What parity and bitwise tests (tests/parity) do not reach: failures and limits.
#include "worker/model/decoder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_ops.h"
#include "parallel/comm/local_communicator.h"

namespace beryl::model {
namespace {

const std::string kTiny = BERYL_SOURCE_DIR "/tests/data/tiny";

// One rank of the tiny model with room for 32 positions.
class DecoderTest : public testing::Test {
 protected:
  static std::vector<int32_t> all_experts() {
    std::vector<int32_t> ids(16);
    std::iota(ids.begin(), ids.end(), 0);
    return ids;
  }

  DecoderBatch batch(int num_rows, std::span<const int32_t> logits_rows) {
    const kernels::BlockTableView table{blocks_.data(), table_offsets_.data(), first_.data(), 16};
    query_start_ = {0, num_rows};
    rank_rows_ = {num_rows};
    return {.token_ids = ids_.data(),
            .rows = {.num_rows = num_rows,
                     .num_segments = 1,
                     .positions = positions_.data(),
                     .query_start_loc = query_start_.data(),
                     .visible_end = nullptr,
                     .global_blocks = table,
                     .sliding_blocks = table},
            .shape = {.mode = expert::StepMode::kExact, .bucket = 0, .rank_rows = rank_rows_},
            .request_seeds = seeds_.data(),
            .logits_rows = logits_rows};
  }

  ModelConfig config_ = load_model_config(kTiny + "/config.json");
  weights::ModelWeights weights_ = weights::ModelWeights::from_checkpoint(
      config_, weights::Checkpoint::open(kTiny), {.local_experts = all_experts()});
  std::unique_ptr<kernels::Ops> ops_ = kernels::cpu::make_cpu_ops({});
  std::vector<std::unique_ptr<comm::Communicator>> group_ = comm::make_local_group(1);
  expert::Placement placement_ = expert::Placement::contiguous(16, 1);
  expert::ExpertExchange exchange_{
      *group_[0], *ops_, placement_, {.hidden_size = 128, .top_k = 4, .max_rows = 8}};
  cache::KvCache cache_{config_, {.block_size = 16, .num_pages = 4}, *ops_};
  Decoder decoder_{{config_, weights_, *ops_, exchange_, cache_},
                   {.max_rows = 8, .max_logits_rows = 2}};

  std::vector<int32_t> ids_{2, 15, 364, 488, 34, 397, 355, 525};
  std::vector<int32_t> positions_{0, 1, 2, 3, 4, 5, 6, 7};
  std::vector<int32_t> blocks_{1, 0};
  std::vector<int32_t> table_offsets_{0, 2};
  std::vector<int32_t> first_{0};
  std::vector<int32_t> query_start_;
  std::vector<int32_t> rank_rows_;
  std::vector<uint64_t> seeds_ = std::vector<uint64_t>(8);
};

TEST_F(DecoderTest, ALostGroupComesBackAsStatus) {
  group_[0]->abort();
  const base::Status status = decoder_.forward(batch(8, {}));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, base::ErrorCode::kUnavailable);
}

TEST_F(DecoderTest, SlicesOfTheHeadEqualSingleRows) {
  const std::vector<int32_t> rows = {6, 1, 7};
  ASSERT_TRUE(decoder_.forward(batch(8, rows)));
  const kernels::TensorView pair = decoder_.logits(0, 2);
  ASSERT_EQ(pair.shape[0], 2);
  ASSERT_EQ(pair.shape[1], 1024);
  const std::vector<float> second(pair.f32() + 1024, pair.f32() + 2048);
  const kernels::TensorView single = decoder_.logits(1, 2);
  EXPECT_EQ(second, std::vector<float>(single.f32(), single.f32() + 1024));
  EXPECT_EQ(decoder_.logits(3, 3).shape[0], 0);
}

TEST_F(DecoderTest, AStepWithoutRowsIsLegal) {
  ASSERT_TRUE(decoder_.forward(batch(0, {})));
  EXPECT_EQ(decoder_.logits(0, 0).shape[0], 0);
}

TEST_F(DecoderTest, LogitsStayWithinTheSoftcap) {
  const std::vector<int32_t> rows = {7};
  ASSERT_TRUE(decoder_.forward(batch(8, rows)));
  const kernels::TensorView logits = decoder_.logits(0, 1);
  for (int i = 0; i < 1024; ++i) EXPECT_LE(std::abs(logits.f32()[i]), 30.0f);
}

}  // namespace
}  // namespace beryl::model
