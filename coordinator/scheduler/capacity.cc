#include "coordinator/scheduler/capacity.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace beryl::scheduler {
namespace {

// Share of each pool kept for the growth of requests that decode already, so that admitting one
// more does not preempt it at once.
constexpr uint32_t kHeadroomShare = 64;

uint32_t blocks_of(uint64_t num_positions, uint32_t block_size) {
  return static_cast<uint32_t>((num_positions + block_size - 1) / block_size);
}

// Blocks that `num_positions` in a row can touch, wherever they start.
uint32_t blocks_touched(uint64_t num_positions, uint32_t block_size) {
  return static_cast<uint32_t>((num_positions + 2 * uint64_t{block_size} - 2) / block_size);
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
  const uint32_t global = blocks_of(num_tokens - 1, facts.block_size);
  if (global > facts.num_global_blocks) {
    const bool prompt_fits =
        blocks_of(num_prompt_tokens, facts.block_size) <= facts.num_global_blocks;
    return too_long(prompt_fits ? "max_tokens" : "prompt",
                    fmt::format("{} prompt tokens and {} new ones need {} cache blocks, a rank has "
                                "{}",
                                num_prompt_tokens, max_tokens, global, facts.num_global_blocks));
  }
  const uint32_t sliding = std::min(global, blocks_touched(facts.sliding_window, facts.block_size));
  if (sliding > facts.num_sliding_blocks) {
    return too_long("prompt", fmt::format("the window needs {} sliding cache blocks, a rank has {}",
                                          sliding, facts.num_sliding_blocks));
  }
  return base::Status::ok();
}

base::Status check_pictures_fit(const GroupFacts& facts, const std::vector<PictureSpan>& pictures,
                                uint32_t num_prompt_tokens, uint32_t max_tokens) {
  const auto refuse = [](std::string message) {
    return base::invalid_argument("prompt", std::move(message));
  };
  if (!pictures.empty() && facts.num_feature_tokens == 0) {
    return refuse("the group takes no pictures");
  }
  const uint32_t num_blocks =
      blocks_of(uint64_t{num_prompt_tokens} + max_tokens - 1, facts.block_size);
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
    const uint32_t num_touched =
        blocks_touched(uint64_t{facts.sliding_window} - 1 + span.num_tokens, facts.block_size);
    if (std::min(num_touched, num_blocks) > facts.num_sliding_blocks) {
      return refuse(fmt::format(
          "a picture of {} tokens and the window before it need {} sliding "
          "cache blocks, a rank has {}",
          span.num_tokens, std::min(num_touched, num_blocks), facts.num_sliding_blocks));
    }
  }
  return base::Status::ok();
}

BlockNeed need_to_run(const GroupFacts& facts, const RequestState& request) {
  const uint32_t num_positions = std::min(request.num_tokens() + 1, request.max_num_tokens() - 1);
  const uint32_t global = blocks_of(num_positions, facts.block_size);
  const uint32_t chunk = std::max(kMinChunkTokens, request.longest_span);
  const uint32_t window =
      blocks_touched(uint64_t{facts.sliding_window} - 1 + chunk, facts.block_size);
  return {global, std::min({global, window, facts.num_sliding_blocks})};
}

void add_promise(const GroupFacts& facts, const RequestState& request, BlockNeed& promised) {
  const Placement& placement = request.placement;
  if (!placement.is_prefilling()) return;
  const BlockNeed need = need_to_run(facts, request);
  promised.global += minus(need.global, placement.num_blocks());
  promised.sliding += minus(need.sliding, static_cast<uint32_t>(placement.sliding_blocks.size()));
}

BlockNeed promised_blocks(const GroupFacts& facts, const RankState& rank) {
  BlockNeed promised;
  for (const RequestState* request : rank.running()) add_promise(facts, *request, promised);
  return promised;
}

BlockNeed unpromised_blocks(const GroupFacts& facts, const RankState& rank,
                            const BlockNeed& promised) {
  BlockNeed headroom;
  if (!rank.running().empty()) {
    headroom.global = std::max(1U, facts.num_global_blocks / kHeadroomShare);
    headroom.sliding = std::max(1U, facts.num_sliding_blocks / kHeadroomShare);
  }
  return {minus(rank.global_pool().num_free(), promised.global + headroom.global),
          minus(rank.sliding_pool().num_free(), promised.sliding + headroom.sliding)};
}

}  // namespace beryl::scheduler
