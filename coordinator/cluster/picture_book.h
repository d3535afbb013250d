// PictureBook: the pixels of a group's requests by key, as long as a request has them. Guarded by
// its owner.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <vector>

#include "coordinator/cluster/engine.h"
#include "coordinator/scheduler/request.h"

namespace beryl::cluster {

using SharedImage = std::shared_ptr<const media::PreparedImage>;

class PictureBook {
 public:
  void add(const std::vector<media::PlacedImage>& pictures);
  // Of a request that was added.
  void remove(const std::vector<media::PlacedImage>& pictures);

  // Null: no request has it.
  SharedImage find(const scheduler::PictureKey& key) const;
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    SharedImage image;
    size_t num_uses = 0;
  };
  std::map<scheduler::PictureKey, Entry> entries_;
};

}  // namespace beryl::cluster
