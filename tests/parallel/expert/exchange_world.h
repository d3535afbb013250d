// One layer's tokens on every rank of a group, the slow plain answer (all experts in one place),
// and the run through ExpertExchange that is compared with it bit by bit.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/ops.h"
#include "parallel/comm/communicator.h"
#include "parallel/expert/expert_exchange.h"
#include "parallel/expert/placement.h"

namespace beryl::expert {

enum class Routing {
  kRandom,      // top_k distinct experts
  kSparse,      // random, many entries unused (-1), some rows without any expert
  kOneExpert,   // every token on expert 0 alone
  kLastExperts  // every token on the last top_k experts
};

struct LayerShape {
  int num_experts = 16;
  int top_k = 4;
  int hidden_size = 20;
  Routing routing = Routing::kRandom;
};

// Tokens of one rank.
struct RankTokens {
  int num_rows = 0;
  std::vector<float> x;        // [T, H]
  std::vector<int32_t> ids;    // [T, top_k]
  std::vector<float> weights;  // [T, top_k]
  std::vector<int32_t> positions;
  std::vector<uint64_t> seeds;
};

RankTokens make_tokens(const LayerShape& shape, int num_rows, uint64_t seed);

// [T, H]: every expert in turn, then the binary tree over all expert ids, absent ones skipped.
std::vector<float> plain_answer(const LayerShape& shape, const RankTokens& tokens);

// The experts of one rank. `skipped` is left out (a planted fault), -1 = none.
ExpertExchange::ExpertFunction made_up_experts(const Placement& placement, int rank, int skipped);

// One layer through the exchange.
base::Status run_layer(ExpertExchange& exchange, const LayerShape& shape, const StepShape& step,
                       RankTokens& tokens, const ExpertExchange::ExpertFunction& experts,
                       std::vector<float>& out);

struct ExchangeCase {
  LayerShape shape;
  Placement placement = Placement::contiguous(1, 1);
  StepMode mode = StepMode::kExact;
  std::vector<int32_t> rank_rows;  // [size]
  int max_rows = 30;
  int round_capacity = 8;
  int num_layers = 3;
  int skipped_expert = -1;  // planted fault
};

// Some ranks full, some empty.
std::vector<int32_t> unequal_rows(int size, int max_rows, uint64_t seed);

// Runs the layers of a case on one rank: rows that differ from plain_answer(), or the first error.
base::Expected<int> run_case_on_rank(const ExchangeCase& test, comm::Communicator& communicator,
                                     kernels::Ops& ops);

// Rows of `got` that are not bitwise those of `wanted`.
int count_wrong_rows(const std::vector<float>& wanted, const std::vector<float>& got,
                     int hidden_size);

}  // namespace beryl::expert
