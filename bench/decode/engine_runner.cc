#include "bench/decode/engine_runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "parallel/base/assert.h"

namespace beryl::bench {
namespace {

int ceil_div(int a, int b) {
  return (a + b - 1) / b;
}

// Descending, so that pages are handed out from the back in ascending order at first.
std::vector<int32_t> all_pages(int num_pages) {
  std::vector<int32_t> ids(static_cast<size_t>(num_pages));
  std::iota(ids.rbegin(), ids.rend(), 0);
  return ids;
}

wire::GroupLimits group_limits(const model::ModelConfig& config, const EngineSize& size,
                               const cache::KvCache& cache) {
  wire::GroupLimits limits;
  limits.epoch = 1;
  limits.num_ranks = 1;
  limits.model.set_vocab_size(static_cast<uint32_t>(config.vocab_size));
  limits.model.set_max_model_len(static_cast<uint32_t>(size.max_length));
  limits.model.set_sliding_window(static_cast<uint32_t>(config.sliding_window));
  limits.model.set_num_hidden_layers(static_cast<uint32_t>(config.num_hidden_layers));
  limits.model.set_num_experts(static_cast<uint32_t>(config.num_experts));
  limits.model.set_top_k_experts(static_cast<uint32_t>(config.top_k_experts));
  limits.cache.set_block_size(static_cast<uint32_t>(size.block_size));
  limits.cache.set_num_pages(static_cast<uint32_t>(cache.size().num_pages));
  limits.cache.set_global_blocks_per_page(static_cast<uint32_t>(cache.layout().global_blocks));
  limits.cache.set_max_num_seqs(static_cast<uint32_t>(size.max_requests));
  limits.cache.set_max_num_batched_tokens(static_cast<uint32_t>(size.max_rows));
  return limits;
}

}  // namespace

cache::KvCacheSize cache_size(const model::ModelConfig& config, const EngineSize& size,
                              kernels::DType kv_dtype) {
  const int length_blocks = ceil_div(size.max_length, size.block_size);
  const int window_blocks =
      std::min(length_blocks, ceil_div(config.sliding_window, size.block_size) + 2);
  // While a prompt is computed, its part of a step lies in blocks beside the window.
  const int step_blocks = window_blocks < length_blocks
                              ? ceil_div(size.max_rows, size.block_size) + size.max_requests
                              : 0;
  const int sliding =
      std::min(size.max_requests * length_blocks, size.max_requests * window_blocks + step_blocks);
  const int global_blocks = cache::page_layout(config, size.block_size, kv_dtype).global_blocks;
  return {.block_size = size.block_size,
          .num_pages = size.max_requests * ceil_div(length_blocks, global_blocks) + sliding};
}

size_t cache_bytes(const model::ModelConfig& config, const EngineSize& size,
                   kernels::DType kv_dtype) {
  return static_cast<size_t>(cache_size(config, size, kv_dtype).num_pages) *
         cache::page_layout(config, size.block_size, kv_dtype).page_bytes();
}

EngineRunner::EngineRunner(const EngineParts& parts, const EngineSize& size)
    : config_(parts.config),
      size_(size),
      exchange_(parts.communicator, parts.ops, parts.placement,
                {.hidden_size = parts.config.hidden_size,
                 .top_k = parts.config.top_k_experts,
                 .max_rows = size.max_rows}),
      cache_(parts.config, cache_size(parts.config, size, parts.ops.kv_dtype()), parts.ops),
      decoder_({.config = parts.config,
                .weights = parts.weights,
                .ops = parts.ops,
                .exchange = exchange_,
                .cache = cache_},
               {.max_rows = size.max_rows}),
      pass_(decoder_),
      executor_(pass_, parts.ops, group_limits(parts.config, size, cache_), 0),
      free_pages_(all_pages(cache_.size().num_pages)) {
  BERYL_ASSERT(parts.communicator.size() == 1, "{} ranks", parts.communicator.size());
}

int EngineRunner::add(const std::vector<int32_t>& prompt, Logprobs logprobs) {
  int handle = 0;
  while (requests_.contains(handle)) ++handle;
  wire::Admission& admission = *plan_.add_admissions();
  admission.set_handle(static_cast<uint32_t>(handle));
  admission.set_request_seed(static_cast<uint64_t>(handle));
  for (const int32_t id : prompt) admission.add_token_ids(static_cast<uint32_t>(id));
  admission.set_num_prompt_tokens(static_cast<uint32_t>(prompt.size()));
  wire::SamplingParams& sampling = *admission.mutable_sampling();
  sampling.set_top_p(1);
  sampling.set_repetition_penalty(1);
  sampling.set_num_top_logprobs(logprobs == Logprobs::kOfOutput ? 0 : -1);
  sampling.set_num_prompt_logprobs(logprobs == Logprobs::kOfPrompt ? 0 : -1);
  requests_[handle].num_tokens = static_cast<int>(prompt.size());
  return handle;
}

int32_t EngineRunner::take_page() {
  BERYL_ASSERT(!free_pages_.empty(), "no free page");
  const int32_t page = free_pages_.back();
  free_pages_.pop_back();
  return page;
}

void EngineRunner::free_behind_window(Request& request) {
  const int reach = std::max(0, request.num_computed - config_.sliding_window + 1);
  const int first =
      std::min(reach / size_.block_size, static_cast<int>(request.sliding_blocks.size()));
  for (; request.first_live_sliding < first; ++request.first_live_sliding) {
    free_pages_.push_back(request.sliding_blocks[static_cast<size_t>(request.first_live_sliding)]);
  }
}

void EngineRunner::add_row(const Part& part) {
  Request& request = requests_.at(part.handle);
  const int end = request.num_computed + part.count;
  wire::Row& row = *plan_.add_rows();
  row.set_handle(static_cast<uint32_t>(part.handle));
  row.set_start(static_cast<uint32_t>(request.num_computed));
  row.set_count(static_cast<uint32_t>(part.count));
  row.set_sample(end == request.num_tokens);
  const auto num_blocks = static_cast<size_t>(ceil_div(end, size_.block_size));
  while (request.global_blocks.size() < num_blocks) {
    const int per_page = cache_.layout().global_blocks;
    const bool is_new_page = request.global_blocks.size() % static_cast<size_t>(per_page) == 0;
    request.global_blocks.push_back(is_new_page ? take_page() * per_page
                                                : request.global_blocks.back() + 1);
    row.add_new_global_blocks(static_cast<uint32_t>(request.global_blocks.back()));
  }
  while (request.sliding_blocks.size() < num_blocks) {
    request.sliding_blocks.push_back(take_page());
    row.add_new_sliding_blocks(static_cast<uint32_t>(request.sliding_blocks.back()));
  }
  request.num_computed = end;
  if (row.sample()) ++request.num_tokens;
}

const wire::StepResult& EngineRunner::step(std::span<const Part> parts, expert::StepMode mode,
                                           model::LayerObserver* observer) {
  uint32_t num_rows = 0;
  for (const Part& part : parts) num_rows += static_cast<uint32_t>(part.count);
  for (auto& [handle, request] : requests_) free_behind_window(request);
  for (const Part& part : parts) add_row(part);
  const bool is_padded = mode == expert::StepMode::kPadded;
  plan_.set_epoch(1);
  plan_.set_step(executor_.last_step() + 1);
  plan_.set_mode(is_padded ? wire::STEP_MODE_PADDED : wire::STEP_MODE_EXACT);
  plan_.set_bucket(
      is_padded ? std::min(std::bit_ceil(num_rows), static_cast<uint32_t>(size_.max_rows)) : 0);
  plan_.set_placement_version(1);
  plan_.add_rank_rows(num_rows);
  pass_.observer = observer;
  auto result = executor_.execute(plan_);
  plan_.Clear();
  if (!result) throw std::runtime_error("the engine refuses a step: " + result.error().message);
  result_ = *std::move(result);
  for (const wire::Output& output : result_.outputs()) {
    if (!output.error().empty()) {
      throw std::runtime_error(
          fmt::format("request {} at {}: {}", output.handle(), output.position(), output.error()));
    }
  }
  return result_;
}

void EngineRunner::release_all() {
  for (auto& [handle, request] : requests_) {
    plan_.add_releases(static_cast<uint32_t>(handle));
    const int per_page = cache_.layout().global_blocks;
    for (const int32_t block : request.global_blocks) {
      if (block % per_page == 0) free_pages_.push_back(block / per_page);
    }
    free_pages_.insert(free_pages_.end(),
                       request.sliding_blocks.begin() + request.first_live_sliding,
                       request.sliding_blocks.end());
  }
  requests_.clear();
}

}  // namespace beryl::bench
