// FeatureStore: the features of pictures that this rank keeps, by key, until it is told to drop
// them. Requests with the same picture share them.
#pragma once

#include <compare>
#include <cstdint>
#include <map>

#include "parallel/base/expected.h"
#include "parallel/wire/cluster.pb.h"
#include "worker/model/features.h"

namespace beryl::engine {

// Equal pictures have equal keys.
struct PictureKey {
  uint64_t high = 0;
  uint64_t low = 0;

  auto operator<=>(const PictureKey&) const = default;
};

inline PictureKey picture_key(const wire::PictureKey& key) {
  return {key.high(), key.low()};
}

class FeatureStore {
 public:
  // Soft tokens of all pictures together.
  explicit FeatureStore(uint32_t max_tokens) : max_tokens_(max_tokens) {}

  // Null: not kept.
  const model::Features* find(const PictureKey& key) const;
  // Whether so many more fit.
  base::Status check_room(int64_t num_tokens) const;
  // An error where the picture is kept already or there is no room: the plan was wrong.
  base::Status put(const PictureKey& key, model::Features features);
  base::Status drop(const PictureKey& key);

  int64_t num_tokens() const { return num_tokens_; }

 private:
  const int64_t max_tokens_;
  int64_t num_tokens_ = 0;
  std::map<PictureKey, model::Features> features_;
};

}  // namespace beryl::engine
