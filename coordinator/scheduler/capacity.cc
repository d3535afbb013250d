#include "coordinator/scheduler/capacity.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace beryl::scheduler {
namespace {

// Share of the pages kept for the growth of requests that decode already, so that admitting one
// more does not preempt it at once.
constexpr uint32_t kHeadroomShare = 64;

uint32_t blocks_of(uint64_t num_positions, uint32_t block_size) {
  return static_cast<uint32_t>((num_positions + block_size - 1) / block_size);
}

// Blocks that `num_positions` in a row can touch, wherever they start.
uint32_t blocks_touched(uint64_t num_positions, uint32_t block_size) {
  return static_cast<uint32_t>((num_positions + 2 * uint64_t{block_size} - 2) / block_size);
}

// Of a request with the rank to itself, at its last position, row by row.
uint32_t pages_alone(const GroupFacts& facts, uint64_t num_positions) {
  const uint32_t global = blocks_of(num_positions, facts.block_size);
  const uint32_t sliding = std::min(global, blocks_touched(facts.sliding_window, facts.block_size));
  return CachePages(facts.global_blocks_per_page).global_pages(global) + sliding;
}

base::Error too_long(std::string param, std::string message) {
  base::Error error = base::invalid_argument(std::move(param), std::move(message));
  error.reason = "context_length_exceeded";
  return error;
}

uint32_t minus(uint32_t a, uint32_t b) {
  return a > b ? a - b : 0;
}

}  // namespace

base::Status check_fits_alone(const GroupFacts& facts, uint32_t num_prompt_tokens,
                              uint32_t max_tokens) {
  if (num_prompt_tokens >= facts.max_model_len) {
    return too_long("prompt", fmt::format("the prompt has {} tokens, the context holds {} with the "
                                          "answer",
                                          num_prompt_tokens, facts.max_model_len));
  }
  const uint64_t num_tokens = uint64_t{num_prompt_tokens} + max_tokens;
  if (num_tokens > facts.max_model_len) {
    return too_long("max_tokens",
                    fmt::format("{} prompt tokens and {} new ones exceed the context of {}",
                                num_prompt_tokens, max_tokens, facts.max_model_len));
  }
  // The last token is never fed back.
  const uint32_t num_pages = pages_alone(facts, num_tokens - 1);
  if (num_pages > facts.num_pages) {
    const bool prompt_fits = pages_alone(facts, num_prompt_tokens) <= facts.num_pages;
    return too_long(prompt_fits ? "max_tokens" : "prompt",
                    fmt::format("{} prompt tokens and {} new ones need {} pages of cache memory, a "
                                "rank has {}",
                                num_prompt_tokens, max_tokens, num_pages, facts.num_pages));
  }
  return base::Status::ok();
}

base::Status check_pictures_fit(const GroupFacts& facts, const std::vector<PictureSpan>& pictures,
                                uint32_t num_prompt_tokens) {
  const auto refuse = [](std::string message) {
    return base::invalid_argument("prompt", std::move(message));
  };
  if (!pictures.empty() && facts.num_feature_tokens == 0) {
    return refuse("the group takes no pictures");
  }
  const uint32_t longest = std::min(facts.max_num_batched_tokens, facts.num_feature_tokens);
  uint64_t previous_end = 0;
  for (const PictureSpan& span : pictures) {
    const uint64_t end = uint64_t{span.start} + span.num_tokens;
    if (span.num_tokens == 0 || span.num_patches == 0 || span.start < previous_end ||
        end > num_prompt_tokens) {
      return refuse(fmt::format("a picture at {} of {} tokens and {} patches is out of place",
                                span.start, span.num_tokens, span.num_patches));
    }
    previous_end = end;
    if (span.num_tokens > longest) {
      return refuse(fmt::format("a picture of {} tokens is too large: one of {} tokens would fit",
                                span.num_tokens, longest));
    }
    if (span.num_patches > facts.max_picture_patches) {
      return refuse(fmt::format("a picture of {} patches is too large: one of {} patches would fit",
                                span.num_patches, facts.max_picture_patches));
    }
    // Its rows go in one step, with the window before them.
    const uint32_t num_blocks = blocks_of(end, facts.block_size);
    const uint32_t num_touched =
        blocks_touched(uint64_t{facts.sliding_window} - 1 + span.num_tokens, facts.block_size);
    const uint32_t num_pages = CachePages(facts.global_blocks_per_page).global_pages(num_blocks) +
                               std::min(num_touched, num_blocks);
    if (num_pages > facts.num_pages) {
      return refuse(fmt::format(
          "a picture of {} tokens and what comes before it need {} pages of cache memory, a rank "
          "has {}",
          span.num_tokens, num_pages, facts.num_pages));
    }
  }
  return base::Status::ok();
}

PageNeed need_to_run(const GroupFacts& facts, const RequestState& request) {
  const uint32_t num_positions = std::min(request.num_tokens() + 1, request.max_num_tokens() - 1);
  const uint32_t num_blocks = blocks_of(num_positions, facts.block_size);
  const uint32_t chunk = std::max(kMinChunkTokens, request.longest_span);
  const uint32_t window =
      blocks_touched(uint64_t{facts.sliding_window} - 1 + chunk, facts.block_size);
  PageNeed need;
  need.global = CachePages(facts.global_blocks_per_page).global_pages(num_blocks);
  need.sliding = std::min({num_blocks, window, minus(facts.num_pages, need.global)});
  return need;
}

uint32_t promised_pages(const GroupFacts& facts, const RequestState& request) {
  const Placement& placement = request.placement;
  if (!placement.is_prefilling()) return 0;
  const PageNeed need = need_to_run(facts, request);
  const CachePages pages(facts.global_blocks_per_page);
  return minus(need.global, pages.global_pages(placement.num_blocks())) +
         minus(need.sliding, static_cast<uint32_t>(placement.sliding_blocks.size()));
}

uint32_t promised_pages(const GroupFacts& facts, const RankState& rank) {
  uint32_t promised = 0;
  for (const RequestState* request : rank.running()) promised += promised_pages(facts, *request);
  return promised;
}

uint32_t unpromised_pages(const GroupFacts& facts, const RankState& rank, uint32_t num_promised) {
  uint32_t headroom = 0;
  if (!rank.running().empty()) headroom = std::max(1U, facts.num_pages / kHeadroomShare);
  return minus(rank.num_free_pages(), num_promised + headroom);
}

}  // namespace beryl::scheduler
