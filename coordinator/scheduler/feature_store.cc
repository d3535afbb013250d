#include "coordinator/scheduler/feature_store.h"

#include <algorithm>

#include "parallel/base/assert.h"

namespace beryl::scheduler {

FeatureStore::FeatureStore(uint32_t num_ranks, uint32_t num_tokens_per_rank)
    : num_tokens_per_rank_(num_tokens_per_rank), ranks_(num_ranks) {}

bool FeatureStore::keeps(uint32_t rank, const PictureKey& key) const {
  return ranks_[rank].by_key.count(key) > 0;
}

const std::vector<uint32_t>& FeatureStore::keepers(const PictureKey& key) const {
  static const std::vector<uint32_t> kNobody;
  const auto found = keepers_.find(key);
  return found == keepers_.end() ? kNobody : found->second;
}

FeatureStore::Entry& FeatureStore::at(uint32_t rank, const PictureKey& key) {
  const auto found = ranks_[rank].by_key.find(key);
  BERYL_ASSERT(found != ranks_[rank].by_key.end(), "rank {} does not keep {:016x}{:016x}", rank,
               key.high, key.low);
  return *found->second;
}

uint32_t FeatureStore::num_droppable(const Rank& rank, uint64_t step, bool heed_pins) const {
  uint32_t num_tokens = 0;
  for (const Entry& entry : rank.entries) {
    const bool is_free = entry.last_step < step && (!heed_pins || entry.num_pins == 0);
    num_tokens += is_free ? entry.num_tokens : 0;
  }
  return num_tokens;
}

bool FeatureStore::could_make_room(uint32_t rank, uint32_t num_tokens, uint64_t step) const {
  const uint64_t num_free = num_tokens_per_rank_ - ranks_[rank].num_kept;
  return num_free >= num_tokens || num_free + num_droppable(ranks_[rank], step, true) >= num_tokens;
}

bool FeatureStore::could_make_room_unpinned(uint32_t rank, uint32_t num_tokens,
                                            uint64_t step) const {
  const uint64_t num_free = num_tokens_per_rank_ - ranks_[rank].num_kept;
  return num_free >= num_tokens ||
         num_free + num_droppable(ranks_[rank], step, false) >= num_tokens;
}

bool FeatureStore::make_room(uint32_t rank_idx, uint32_t num_tokens, uint64_t step,
                             std::vector<PictureKey>& drops) {
  if (!could_make_room(rank_idx, num_tokens, step)) return false;
  Rank& rank = ranks_[rank_idx];
  for (auto entry = rank.entries.begin(); num_tokens_per_rank_ - rank.num_kept < num_tokens;) {
    if (entry->num_pins > 0 || entry->last_step >= step) {
      ++entry;
      continue;
    }
    drops.push_back(entry->key);
    rank.num_kept -= entry->num_tokens;
    forget_keeper(entry->key, rank_idx);
    rank.by_key.erase(entry->key);
    entry = rank.entries.erase(entry);
  }
  return true;
}

void FeatureStore::forget_keeper(const PictureKey& key, uint32_t rank) {
  const auto found = keepers_.find(key);
  std::vector<uint32_t>& keepers = found->second;
  keepers.erase(std::find(keepers.begin(), keepers.end(), rank));
  if (keepers.empty()) keepers_.erase(found);
}

void FeatureStore::put(uint32_t rank_idx, const PictureKey& key, uint32_t num_tokens,
                       uint64_t step) {
  Rank& rank = ranks_[rank_idx];
  BERYL_ASSERT(!keeps(rank_idx, key), "rank {} keeps {:016x}{:016x} already", rank_idx, key.high,
               key.low);
  BERYL_ASSERT(num_tokens_per_rank_ - rank.num_kept >= num_tokens, "{} of {} tokens kept, {} more",
               rank.num_kept, num_tokens_per_rank_, num_tokens);
  rank.entries.push_back({.key = key, .num_tokens = num_tokens, .num_pins = 0, .last_step = step});
  rank.by_key.emplace(key, std::prev(rank.entries.end()));
  rank.num_kept += num_tokens;
  keepers_[key].push_back(rank_idx);
}

void FeatureStore::use(uint32_t rank_idx, const PictureKey& key, uint64_t step) {
  Entry& entry = at(rank_idx, key);
  entry.last_step = step;
  Rank& rank = ranks_[rank_idx];
  rank.entries.splice(rank.entries.end(), rank.entries, rank.by_key.at(key));
}

void FeatureStore::pin(uint32_t rank, const PictureKey& key) {
  ++at(rank, key).num_pins;
}

void FeatureStore::unpin(uint32_t rank, const PictureKey& key) {
  Entry& entry = at(rank, key);
  BERYL_ASSERT(entry.num_pins > 0, "{:016x}{:016x} is not pinned", key.high, key.low);
  --entry.num_pins;
}

uint64_t FeatureStore::num_pins(uint32_t rank) const {
  uint64_t num_pins = 0;
  for (const Entry& entry : ranks_[rank].entries) num_pins += entry.num_pins;
  return num_pins;
}

}  // namespace beryl::scheduler
