#include "bench/model/rank_runner.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "bench/model/host_observer.h"
#include "parallel/base/assert.h"

namespace beryl::bench {

namespace {

constexpr int ceil_div(int a, int b) {
  return (a + b - 1) / b;
}

// Each request may leave a partly filled block and page, so there is one more of each per request.
cache::KvCacheSize cache_size(const model::ModelConfig& config, const RunnerLimits& limits,
                              kernels::DType kv_dtype) {
  const int blocks = ceil_div(limits.max_positions, limits.block_size) + limits.max_requests;
  const int per_page = cache::page_layout(config, limits.block_size, kv_dtype).global_blocks;
  return {.block_size = limits.block_size,
          .num_pages = blocks + ceil_div(blocks, per_page) + limits.max_requests};
}

// Descending, so that pages are handed out from the back in ascending order at first.
std::vector<int32_t> all_pages(int num_pages) {
  std::vector<int32_t> ids(static_cast<size_t>(num_pages));
  std::iota(ids.rbegin(), ids.rend(), 0);
  return ids;
}

int32_t take_page(std::vector<int32_t>* free_pages) {
  BERYL_ASSERT(!free_pages->empty(), "no free page: raise RunnerLimits::max_positions");
  const int32_t page = free_pages->back();
  free_pages->pop_back();
  return page;
}

}  // namespace

Segment scored_segment(int request_id, std::vector<int32_t> token_ids) {
  std::vector<int32_t> offsets(token_ids.size());
  std::iota(offsets.begin(), offsets.end(), 0);
  return {request_id, std::move(token_ids), std::move(offsets)};
}

Segment sampled_segment(int request_id, std::vector<int32_t> token_ids) {
  const auto last = static_cast<int32_t>(token_ids.size()) - 1;
  return {request_id, std::move(token_ids), {last}};
}

RankRunner::RankRunner(const RunnerParts& parts, const RunnerLimits& limits)
    : config_(parts.config),
      limits_(limits),
      ops_(parts.ops),
      communicator_(parts.communicator),
      exchange_(parts.communicator, parts.ops, parts.placement,
                {.hidden_size = parts.config.hidden_size,
                 .top_k = parts.config.top_k_experts,
                 .max_rows = limits.max_rows,
                 .round_capacity = limits.round_capacity}),
      cache_(parts.config, cache_size(parts.config, limits, parts.ops.kv_dtype()), parts.ops),
      decoder_({.config = parts.config,
                .weights = parts.weights,
                .ops = parts.ops,
                .exchange = exchange_,
                .cache = cache_},
               {.max_rows = limits.max_rows, .max_logits_rows = limits.max_logits_rows}),
      free_pages_(all_pages(cache_.size().num_pages)) {}

base::Status RankRunner::run(const GroupStep& step, expert::StepMode mode,
                             model::LayerObserver* observer) {
  BERYL_ASSERT(static_cast<int>(step.size()) == communicator_.size(), "{} parts for {} ranks",
               step.size(), communicator_.size());
  std::vector<int32_t> rank_rows;
  for (const std::vector<Segment>& segments : step) {
    int32_t rows = 0;
    for (const Segment& segment : segments) rows += static_cast<int32_t>(segment.token_ids.size());
    rank_rows.push_back(rows);
  }
  build_batch(step[static_cast<size_t>(communicator_.rank())]);
  slice_begin_ = slice_end_ = 0;
  const model::DecoderBatch batch{
      .token_ids = token_ids_.data(),
      .rows = {.num_rows = static_cast<int>(rows_.size()),
               .num_segments = static_cast<int>(query_start_loc_.size()) - 1,
               .positions = positions_.data(),
               .query_start_loc = query_start_loc_.data(),
               .visible_end = visible_end_.data(),
               .global_blocks = global_table_.view(limits_.block_size),
               .sliding_blocks = sliding_table_.view(limits_.block_size)},
      .shape = {.mode = mode,
                .bucket = *std::max_element(rank_rows.begin(), rank_rows.end()),
                .rank_rows = rank_rows},
      .request_seeds = request_seeds_.data(),
      .logits_rows = logits_rows_,
      .features = features_};
  if (observer == nullptr || ops_.memory_is_host()) return decoder_.forward(batch, observer);
  HostObserver host_observer(ops_, *observer);
  return decoder_.forward(batch, &host_observer);
}

void RankRunner::build_batch(const std::vector<Segment>& segments) {
  rows_.clear();
  token_ids_.clear();
  positions_.clear();
  visible_end_.clear();
  features_.clear();
  request_seeds_.clear();
  logits_rows_.clear();
  query_start_loc_ = {0};
  global_table_ = {{}, {0}, {}};
  sliding_table_ = {{}, {0}, {}};
  for (const Segment& segment : segments) {
    Request& request = requests_[segment.request_id];
    const int begin = request.num_computed_tokens;
    extend(&request, static_cast<int>(segment.token_ids.size()));
    for (const int32_t offset : segment.logits_offsets) {
      logits_rows_.push_back(query_start_loc_.back() + offset);
    }
    for (int i = 0; i < static_cast<int>(segment.token_ids.size()); ++i) {
      rows_.push_back({segment.request_id, begin + i});
      positions_.push_back(begin + i);
      request_seeds_.push_back(static_cast<uint64_t>(segment.request_id));
    }
    add_spans(segment, begin, request.num_computed_tokens);
    token_ids_.insert(token_ids_.end(), segment.token_ids.begin(), segment.token_ids.end());
    query_start_loc_.push_back(static_cast<int32_t>(rows_.size()));
    append_table(request.global_blocks, 0, &global_table_);
    append_table(request.sliding_blocks, request.first_sliding_block, &sliding_table_);
  }
}

// `begin` and `end` are the positions of the segment, whose rows are the last ones so far.
void RankRunner::add_spans(const Segment& segment, int begin, int end) {
  const int first_row = static_cast<int>(rows_.size()) - (end - begin);
  visible_end_.insert(visible_end_.end(), positions_.begin() + first_row, positions_.end());
  for (const FeatureSpan& span : segment.spans) {
    if (span.end() <= begin || span.first >= end) continue;
    BERYL_ASSERT(span.first >= begin && span.end() <= end, "[{}, {}) cuts the span [{}, {})", begin,
                 end, span.first, span.end());
    const int row = first_row + span.first - begin;
    features_.push_back({.first_row = row, .features = span.features});
    std::fill_n(visible_end_.begin() + row, span.end() - span.first, span.end() - 1);
  }
}

// Blocks behind the window go back at once, so that reuse is exercised too.
void RankRunner::extend(Request* request, int num_tokens) {
  const int block_size = limits_.block_size;
  const int first_visible = std::max(0, request->num_computed_tokens - config_.sliding_window + 1);
  while (request->first_sliding_block < first_visible / block_size &&
         !request->sliding_blocks.empty()) {
    free_pages_.push_back(request->sliding_blocks.front());
    request->sliding_blocks.erase(request->sliding_blocks.begin());
    ++request->first_sliding_block;
  }
  request->num_computed_tokens += num_tokens;
  const int num_blocks = ceil_div(request->num_computed_tokens, block_size);
  while (static_cast<int>(request->global_blocks.size()) < num_blocks) {
    const int per_page = cache_.layout().global_blocks;
    const bool is_new_page = request->global_blocks.size() % static_cast<size_t>(per_page) == 0;
    request->global_blocks.push_back(is_new_page ? take_page(&free_pages_) * per_page
                                                 : request->global_blocks.back() + 1);
  }
  while (request->first_sliding_block + static_cast<int>(request->sliding_blocks.size()) <
         num_blocks) {
    request->sliding_blocks.push_back(take_page(&free_pages_));
  }
}

void RankRunner::append_table(const std::vector<int32_t>& blocks, int first_block, Table* table) {
  table->block_ids.insert(table->block_ids.end(), blocks.begin(), blocks.end());
  table->offsets.push_back(static_cast<int32_t>(table->block_ids.size()));
  table->first_block.push_back(first_block);
}

const float* RankRunner::logits(int i) {
  const int num_selected = static_cast<int>(logits_rows_.size());
  if (i < slice_begin_ || i >= slice_end_) {
    slice_begin_ = i;
    slice_end_ = std::min(i + limits_.max_logits_rows, num_selected);
    slice_ = decoder_.logits(slice_begin_, slice_end_);
    if (!ops_.memory_is_host()) {
      slice_copy_.resize(static_cast<size_t>(slice_.num_elements()));
      ops_.download(slice_copy_.data(), slice_.data, slice_.num_bytes());
      slice_.data = slice_copy_.data();
    }
  }
  return slice_.f32() + (i - slice_begin_) * slice_.shape[1];
}

void RankRunner::drop(int request_id) {
  const auto it = requests_.find(request_id);
  if (it == requests_.end()) return;
  Request& request = it->second;
  const int per_page = cache_.layout().global_blocks;
  for (const int32_t block : request.global_blocks) {
    if (block % per_page == 0) free_pages_.push_back(block / per_page);
  }
  free_pages_.insert(free_pages_.end(), request.sliding_blocks.begin(),
                     request.sliding_blocks.end());
  requests_.erase(it);
}

void RankRunner::drop_all() {
  while (!requests_.empty()) drop(requests_.begin()->first);
}

}  // namespace beryl::bench
