#include "coordinator/cluster/picture_book.h"

#include "coordinator/cluster/prompt_pictures.h"
#include "parallel/base/assert.h"

namespace beryl::cluster {

void PictureBook::add(const std::vector<media::PlacedImage>& pictures) {
  for (const media::PlacedImage& picture : pictures) {
    Entry& entry = entries_[to_key(picture.image->hash)];
    if (entry.num_uses++ == 0) entry.image = picture.image;
  }
}

void PictureBook::remove(const std::vector<media::PlacedImage>& pictures) {
  for (const media::PlacedImage& picture : pictures) {
    const auto found = entries_.find(to_key(picture.image->hash));
    BERYL_ASSERT(found != entries_.end(), "a picture at {} was never added",
                 picture.first_soft_token);
    if (--found->second.num_uses == 0) entries_.erase(found);
  }
}

SharedImage PictureBook::find(const scheduler::PictureKey& key) const {
  const auto found = entries_.find(key);
  return found == entries_.end() ? nullptr : found->second.image;
}

}  // namespace beryl::cluster
