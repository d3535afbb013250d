// In steady state a layer allocates nothing but one handle for each exchange of the communicator.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "kernels/cpu/cpu_ops.h"
#include "parallel/comm/local_communicator.h"
#include "tests/parallel/expert/exchange_world.h"

namespace {

std::atomic<int>& num_allocations() {
  static std::atomic<int> count = 0;
  return count;
}

}  // namespace

void* operator new(size_t num_bytes) {
  ++num_allocations();
  void* const memory = std::malloc(num_bytes);
  if (memory == nullptr) std::abort();
  return memory;
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}

namespace beryl::expert {
namespace {

TEST(ExchangeMemoryTest, ALayerAllocatesExchangeHandlesOnly) {
  constexpr int kRows = 30;
  constexpr int kRounds = 3;
  auto group = comm::make_local_group(1);
  const auto ops = kernels::cpu::make_cpu_ops({});
  const LayerShape shape{16, 8, 64, Routing::kRandom};
  const Placement placement = Placement::contiguous(16, 1);
  ExpertExchange exchange(*group[0], *ops, placement,
                          {shape.hidden_size, shape.top_k, kRows, kRows / kRounds});
  const ExpertExchange::ExpertFunction experts = made_up_experts(placement, 0, -1);
  const std::vector<int32_t> rank_rows{kRows};
  RankTokens tokens = make_tokens(shape, kRows, 1);
  std::vector<float> out(tokens.x.size());
  for (int layer = 0; layer < 4; ++layer) {
    const int before = num_allocations();
    ASSERT_TRUE(run_layer(exchange, shape, {StepMode::kExact, 0, rank_rows}, tokens, experts, out));
    EXPECT_EQ(num_allocations() - before, 1 + 2 * kRounds) << layer;
  }
  EXPECT_EQ(count_wrong_rows(plain_answer(shape, tokens), out, shape.hidden_size), 0);
}

}  // namespace
}  // namespace beryl::expert
