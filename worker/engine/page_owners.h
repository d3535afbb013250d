// PageOwners: which request holds which page of cache memory, as far as this rank was told, and as
// what. Two requests writing to one page would read each other's text; this makes it an error
// instead.
#pragma once

#include <cstdint>
#include <vector>

namespace beryl::engine {

struct PageOwner {
  int64_t handle = -1;  // -1: nobody
  bool is_global = false;
  uint32_t number = 0;  // which page of that request and kind
};

class PageOwners {
 public:
  explicit PageOwners(uint32_t num_pages) : owners_(num_pages) {}

  const PageOwner& of(uint32_t page) const { return owners_[page]; }
  void take(uint32_t page, const PageOwner& owner) { owners_[page] = owner; }
  // Leaves a page alone that somebody else has taken meanwhile.
  void drop(uint32_t page, uint32_t handle) {
    if (owners_[page].handle == handle) owners_[page] = {};
  }

 private:
  std::vector<PageOwner> owners_;
};

}  // namespace beryl::engine
