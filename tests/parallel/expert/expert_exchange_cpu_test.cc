// The exchange with the real CPU operations: any number of ranks gives the bits of one rank.
#include <gtest/gtest.h>

#include <bit>
#include <random>

#include "kernels/cpu/cpu_ops.h"
#include "tests/parallel/comm/run_ranks.h"
#include "tests/parallel/expert/exchange_world.h"

namespace beryl::expert {
namespace {

using kernels::DType;
using kernels::TensorView;

constexpr int kNumExperts = 16;
constexpr int kHidden = 64;
constexpr int kIntermediate = 32;
constexpr int kMaxRows = 21;

// Weights of all experts, cut per rank by slot.
class Weights {
 public:
  Weights() {
    std::mt19937_64 random(11);
    std::normal_distribution<float> normal(0, 0.2F);
    for (uint16_t& value : gate_up_) value = bf16(normal(random));
    for (uint16_t& value : down_) value = bf16(normal(random));
  }

  // Copies of the local experts' weights, in slot order.
  struct Local {
    std::vector<uint16_t> gate_up;
    std::vector<uint16_t> down;
    kernels::ExpertWeights views;
  };
  void take(std::span<const int32_t> experts, Local& local) const {
    for (const int32_t expert : experts) {
      append(gate_up_, kGateUp, expert, local.gate_up);
      append(down_, kDown, expert, local.down);
    }
    const auto count = static_cast<int64_t>(experts.size());
    local.views.gate_up_proj = {
        local.gate_up.data(), DType::kBFloat16, {count, 2 * kIntermediate, kHidden}};
    local.views.down_proj = {local.down.data(), DType::kBFloat16, {count, kHidden, kIntermediate}};
  }

 private:
  static constexpr size_t kGateUp = 2 * kIntermediate * kHidden;
  static constexpr size_t kDown = kHidden * kIntermediate;

  static uint16_t bf16(float value) {
    return static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
  }
  static void append(const std::vector<uint16_t>& from, size_t length, int32_t expert,
                     std::vector<uint16_t>& to) {
    const auto begin = from.begin() + static_cast<int64_t>(length) * expert;
    to.insert(to.end(), begin, begin + static_cast<int64_t>(length));
  }

  std::vector<uint16_t> gate_up_ = std::vector<uint16_t>(kNumExperts * kGateUp);
  std::vector<uint16_t> down_ = std::vector<uint16_t>(kNumExperts * kDown);
};

const LayerShape kShape{kNumExperts, 8, kHidden, Routing::kRandom};

base::Status run_rank(comm::Communicator& communicator, const Placement& placement, StepMode mode,
                      const std::vector<int32_t>& rank_rows, RankTokens& tokens,
                      std::vector<float>& out) {
  const auto ops = kernels::cpu::make_cpu_ops({});
  Weights::Local local;
  Weights().take(placement.local_experts(communicator.rank()), local);
  ExpertExchange exchange(communicator, *ops, placement,
                          {kHidden, kShape.top_k, kMaxRows * 8, kMaxRows});
  const auto experts = [&](const ReceivedRows& in, const TensorView& result) {
    ops->expert_ffn(local.views, in.x, in.batch, result);
  };
  return run_layer(exchange, kShape, {mode, kMaxRows * 8, rank_rows}, tokens, experts, out);
}

std::vector<float> one_rank_answer(RankTokens tokens) {
  auto group = comm::make_local_group(1);
  std::vector<float> out;
  EXPECT_TRUE(run_rank(*group[0], Placement::contiguous(kNumExperts, 1), StepMode::kExact,
                       {tokens.num_rows}, tokens, out));
  return out;
}

TEST(ExpertExchangeCpuTest, RanksGiveTheBitsOfOneRank) {
  for (const int size : {2, 3, 4, 8}) {
    const Placement placement = Placement::contiguous(kNumExperts, size);
    const std::vector<int32_t> rank_rows = unequal_rows(size, kMaxRows, 2);
    for (const StepMode mode : {StepMode::kExact, StepMode::kPadded}) {
      comm::run_local_ranks(size, {}, [&](std::unique_ptr<comm::Communicator>& communicator) {
        const auto rank = static_cast<size_t>(communicator->rank());
        RankTokens tokens = make_tokens(kShape, rank_rows[rank], rank);
        const std::vector<float> wanted = one_rank_answer(tokens);
        std::vector<float> out;
        ASSERT_TRUE(run_rank(*communicator, placement, mode, rank_rows, tokens, out));
        EXPECT_EQ(count_wrong_rows(wanted, out, kHidden), 0) << size;
      });
    }
  }
}

}  // namespace
}  // namespace beryl::expert
