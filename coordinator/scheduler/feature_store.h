// Which picture features each rank keeps, as of the last planned step. Ranks execute steps strictly
// in order, so what is planned is as good as done for the plans that follow.
//
// A rank keeps at most num_feature_tokens soft tokens. What is neither pinned nor named by the step
// that is being planned may be dropped, least recently used first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <unordered_map>
#include <vector>

#include "coordinator/scheduler/request.h"

namespace beryl::scheduler {

struct PictureKeyHash {
  // The key is a piece of a cryptographic hash already.
  size_t operator()(const PictureKey& key) const { return static_cast<size_t>(key.low ^ key.high); }
};

class FeatureStore {
 public:
  FeatureStore() = default;
  FeatureStore(uint32_t num_ranks, uint32_t num_tokens_per_rank);

  bool keeps(uint32_t rank, const PictureKey& key) const;
  // Ranks that keep it, in no order.
  const std::vector<uint32_t>& keepers(const PictureKey& key) const;

  // Drops entries, appended to `drops`, until `num_tokens` more fit; changes nothing and returns
  // false if that cannot be in `step`.
  bool make_room(uint32_t rank, uint32_t num_tokens, uint64_t step, std::vector<PictureKey>& drops);
  bool could_make_room(uint32_t rank, uint32_t num_tokens, uint64_t step) const;
  // The same if nothing were pinned.
  bool could_make_room_unpinned(uint32_t rank, uint32_t num_tokens, uint64_t step) const;

  // The rank keeps it from `step` on. There is room.
  void put(uint32_t rank, const PictureKey& key, uint32_t num_tokens, uint64_t step);
  // `step` names it: it cannot be dropped in that step. The rank keeps it.
  void use(uint32_t rank, const PictureKey& key, uint64_t step);
  // A span whose rows are not planned yet needs it; as many unpins follow. The rank keeps it.
  void pin(uint32_t rank, const PictureKey& key);
  void unpin(uint32_t rank, const PictureKey& key);

  // Soft tokens kept.
  uint32_t num_kept(uint32_t rank) const { return ranks_[rank].num_kept; }
  // Pins, of all entries.
  uint64_t num_pins(uint32_t rank) const;

 private:
  struct Entry {
    PictureKey key;
    uint32_t num_tokens = 0;
    uint32_t num_pins = 0;
    uint64_t last_step = 0;  // the last step that names it
  };
  using Entries = std::list<Entry>;
  struct Rank {
    Entries entries;  // least recently used first
    std::unordered_map<PictureKey, Entries::iterator, PictureKeyHash> by_key;
    uint32_t num_kept = 0;
  };
  Entry& at(uint32_t rank, const PictureKey& key);
  uint32_t num_droppable(const Rank& rank, uint64_t step, bool heed_pins) const;
  void forget_keeper(const PictureKey& key, uint32_t rank);

  uint32_t num_tokens_per_rank_ = 0;
  std::vector<Rank> ranks_;
  std::unordered_map<PictureKey, std::vector<uint32_t>, PictureKeyHash> keepers_;
};

}  // namespace beryl::scheduler
