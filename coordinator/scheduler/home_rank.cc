#include "coordinator/scheduler/home_rank.h"

#include <algorithm>
#include <tuple>

namespace beryl::scheduler {
namespace {

// A decoding request loads its rank for a long time, a queued prompt token once: this many prompt
// tokens weigh as much as one running request.
constexpr uint64_t kTokensPerRunning = 32;

// Smaller is better. Ranks run in lockstep, so work to do comes first, in prompt tokens; then
// features that need not be moved; pages break ties.
std::tuple<uint64_t, int64_t, int64_t> load_of(const RankOffer& offer) {
  return {offer.tokens_queued + offer.vision_tokens + kTokensPerRunning * offer.num_running,
          -int64_t{offer.feature_tokens_kept}, -int64_t{offer.pages}};
}

}  // namespace

std::optional<uint32_t> choose_home_rank(const std::vector<RankOffer>& offers, uint32_t num_pages) {
  std::optional<uint32_t> best;
  for (uint32_t rank = 0; rank < offers.size(); ++rank) {
    const RankOffer& offer = offers[rank];
    if (!offer.is_open || !offer.can_start || offer.prompt_rows == 0) continue;
    if (offer.pages < num_pages) continue;
    if (!best || load_of(offer) < load_of(offers[*best])) best = rank;
  }
  return best;
}

}  // namespace beryl::scheduler
