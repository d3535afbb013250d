// How many cache pages a request needs, and whether it fits: alone (add), or beside others
// (admission).
#pragma once

#include <cstdint>

#include "coordinator/scheduler/cache_pages.h"
#include "coordinator/scheduler/rank_state.h"
#include "coordinator/scheduler/request_state.h"
#include "coordinator/scheduler/scheduler.h"
#include "parallel/base/expected.h"

namespace beryl::scheduler {

// Prompt tokens a chunk carries at least, unless fewer are left.
inline constexpr uint32_t kMinChunkTokens = 16;

// kInvalidArgument (param "prompt" or "max_tokens") if it could not run with the group to itself.
base::Status check_fits_alone(const GroupFacts& facts, uint32_t num_prompt_tokens,
                              uint32_t max_tokens);

// kInvalidArgument (param "prompt", saying what would fit) if a picture could never be served, or
// if the spans are not ascending, apart from each other and within the prompt.
base::Status check_pictures_fit(const GroupFacts& facts, const std::vector<PictureSpan>& pictures,
                                uint32_t num_prompt_tokens);

// Pages for all tokens known now and one more; of sliding layers, for the window and a least chunk
// or the longest span. Never more than there are.
PageNeed need_to_run(const GroupFacts& facts, const RequestState& request);

// Pages that a request which is prefilling was promised and not yet given.
uint32_t promised_pages(const GroupFacts& facts, const RequestState& request);
uint32_t promised_pages(const GroupFacts& facts, const RankState& rank);

// Pages a rank can promise to one more request, next to `num_promised`.
uint32_t unpromised_pages(const GroupFacts& facts, const RankState& rank, uint32_t num_promised);

}  // namespace beryl::scheduler
