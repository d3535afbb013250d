#include "tests/parallel/expert/exchange_world.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>

#include "tests/parallel/expert/scalar_ops.h"

namespace beryl::expert {
namespace {

using kernels::DType;
using kernels::TensorView;

void route_row(const LayerShape& shape, std::mt19937_64& random, int32_t* ids) {
  std::vector<int32_t> all(static_cast<size_t>(shape.num_experts));
  std::iota(all.begin(), all.end(), 0);
  if (shape.routing == Routing::kLastExperts) std::reverse(all.begin(), all.end());
  const bool shuffles = shape.routing == Routing::kRandom || shape.routing == Routing::kSparse;
  if (shuffles) std::shuffle(all.begin(), all.end(), random);
  for (int k = 0; k < shape.top_k; ++k) {
    const bool unused = (shape.routing == Routing::kSparse && random() % 2 == 0) ||
                        (shape.routing == Routing::kOneExpert && k != shape.top_k / 2);
    ids[k] = unused ? -1 : all[static_cast<size_t>(k)];
  }
  if (shape.routing == Routing::kOneExpert) ids[shape.top_k / 2] = 0;
}

using Row = std::vector<float>;  // [H]; empty = absent

// Sum of the present experts of [begin, begin + width).
Row sum_node(const std::vector<Row>& experts, size_t begin, size_t width) {
  if (begin >= experts.size()) return {};
  if (width == 1) return experts[begin];
  Row left = sum_node(experts, begin, width / 2);
  const Row right = sum_node(experts, begin + width / 2, width / 2);
  if (left.empty()) return right;
  for (size_t i = 0; i < right.size(); ++i) left[i] += right[i];
  return left;
}

}  // namespace

RankTokens make_tokens(const LayerShape& shape, int num_rows, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  RankTokens tokens;
  tokens.num_rows = num_rows;
  const auto rows = static_cast<size_t>(num_rows);
  const auto top_k = static_cast<size_t>(shape.top_k);
  tokens.x.resize(rows * static_cast<size_t>(shape.hidden_size));
  tokens.ids.resize(rows * top_k);
  tokens.weights.resize(rows * top_k);
  for (float& value : tokens.x) value = normal(random);
  for (float& value : tokens.weights) value = std::abs(normal(random));
  for (size_t row = 0; row < rows; ++row) {
    route_row(shape, random, tokens.ids.data() + row * top_k);
    tokens.positions.push_back(static_cast<int32_t>(random() % 1000));
    tokens.seeds.push_back(random() % 3);
  }
  return tokens;
}

std::vector<float> plain_answer(const LayerShape& shape, const RankTokens& tokens) {
  const auto width = static_cast<size_t>(shape.hidden_size);
  std::vector<float> answer;
  size_t tree_width = 1;
  while (tree_width < static_cast<size_t>(shape.num_experts)) tree_width *= 2;
  for (size_t row = 0; row < static_cast<size_t>(tokens.num_rows); ++row) {
    std::vector<Row> experts(static_cast<size_t>(shape.num_experts));
    for (size_t k = 0; k < static_cast<size_t>(shape.top_k); ++k) {
      const size_t entry = row * static_cast<size_t>(shape.top_k) + k;
      const int32_t id = tokens.ids[entry];
      if (id < 0) continue;
      std::vector<float> result(width);
      run_made_up_expert(id, tokens.x.data() + row * width, tokens.weights[entry],
                         shape.hidden_size, result.data());
      experts[static_cast<size_t>(id)] = std::move(result);
    }
    Row sum = sum_node(experts, 0, tree_width);
    sum.resize(width);  // without experts: zeros
    answer.insert(answer.end(), sum.begin(), sum.end());
  }
  return answer;
}

ExpertExchange::ExpertFunction made_up_experts(const Placement& placement, int rank, int skipped) {
  return [&placement, rank, skipped](const ReceivedRows& in, const TensorView& out) {
    const auto width = static_cast<int>(out.shape[1]);
    const auto local = placement.local_experts(rank);
    for (size_t slot = 0; slot < local.size(); ++slot) {
      for (int a = in.batch.expert_offsets[slot]; a < in.batch.expert_offsets[slot + 1]; ++a) {
        const float* const x = in.x.f32() + int64_t{in.batch.row_idx[a]} * width;
        float* const to = out.f32() + int64_t{a} * width;
        run_made_up_expert(local[slot], x, in.batch.weight[a], width, to);
        if (local[slot] == skipped) std::fill_n(to, width, 0.0F);
      }
    }
  };
}

base::Status run_layer(ExpertExchange& exchange, const LayerShape& shape, const StepShape& step,
                       RankTokens& tokens, const ExpertExchange::ExpertFunction& experts,
                       std::vector<float>& out) {
  RoutedRows rows;
  rows.x = {tokens.x.data(), DType::kFloat32, {tokens.num_rows, shape.hidden_size}};
  rows.topk_idx = {tokens.ids.data(), DType::kInt32, {tokens.num_rows, shape.top_k}};
  rows.topk_weights = {tokens.weights.data(), DType::kFloat32, {tokens.num_rows, shape.top_k}};
  rows.positions = tokens.positions.data();
  rows.request_seeds = tokens.seeds.data();
  rows.layer = 3;
  out.assign(tokens.x.size(), -1.0F);
  if (base::Status status = exchange.begin(step, rows); !status) return status;
  return exchange.finish(experts,
                         {out.data(), DType::kFloat32, {tokens.num_rows, shape.hidden_size}});
}

std::vector<int32_t> unequal_rows(int size, int max_rows, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> rows(static_cast<size_t>(size));
  for (int32_t& count : rows) {
    count = static_cast<int32_t>(random() % static_cast<uint64_t>(max_rows + 1));
  }
  rows[0] = max_rows;
  if (size > 1) rows[static_cast<size_t>(size) - 1] = 0;
  return rows;
}

base::Expected<int> run_case_on_rank(const ExchangeCase& test, comm::Communicator& communicator,
                                     kernels::Ops& ops) {
  const int rank = communicator.rank();
  ExpertExchange exchange(
      communicator, ops, test.placement,
      {test.shape.hidden_size, test.shape.top_k, test.max_rows, test.round_capacity});
  const auto experts = made_up_experts(test.placement, rank, test.skipped_expert);
  int num_wrong = 0;
  for (int layer = 0; layer < test.num_layers; ++layer) {
    RankTokens tokens = make_tokens(test.shape, test.rank_rows[static_cast<size_t>(rank)],
                                    static_cast<uint64_t>(layer * 100 + rank));
    std::vector<float> out;
    const base::Status status = run_layer(
        exchange, test.shape, {test.mode, test.max_rows, test.rank_rows}, tokens, experts, out);
    if (!status) return status.error();
    num_wrong += count_wrong_rows(plain_answer(test.shape, tokens), out, test.shape.hidden_size);
  }
  return num_wrong;
}

int count_wrong_rows(const std::vector<float>& wanted, const std::vector<float>& got,
                     int hidden_size) {
  int wrong = wanted.size() == got.size() ? 0 : 1;
  const auto width = static_cast<size_t>(hidden_size);
  for (size_t begin = 0; begin + width <= std::min(wanted.size(), got.size()); begin += width) {
    wrong += std::memcmp(&wanted[begin], &got[begin], width * sizeof(float)) != 0;
  }
  return wrong;
}

}  // namespace beryl::expert
