// BlockOwners: which request holds which block of a pool, as far as this rank was told. Two
// requests writing to one block would read each other's text; this makes it an error instead.
#pragma once

#include <cstdint>
#include <vector>

namespace beryl::engine {

struct BlockOwner {
  int64_t handle = -1;  // -1: nobody
  uint32_t number = 0;  // which block of that request
};

class BlockOwners {
 public:
  explicit BlockOwners(uint32_t num_blocks) : owners_(num_blocks) {}

  const BlockOwner& of(uint32_t block) const { return owners_[block]; }
  void take(uint32_t block, uint32_t handle, uint32_t number) { owners_[block] = {handle, number}; }
  // Leaves a block alone that somebody else has taken meanwhile.
  void drop(uint32_t block, uint32_t handle) {
    if (owners_[block].handle == handle) owners_[block] = {};
  }

 private:
  std::vector<BlockOwner> owners_;
};

}  // namespace beryl::engine
