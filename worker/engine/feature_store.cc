#include "worker/engine/feature_store.h"

#include <fmt/format.h>

#include <utility>

namespace beryl::engine {

using base::Status;

const model::Features* FeatureStore::find(const PictureKey& key) const {
  const auto it = features_.find(key);
  return it == features_.end() ? nullptr : &it->second;
}

Status FeatureStore::check_room(int64_t num_tokens) const {
  if (num_tokens_ + num_tokens <= max_tokens_) return Status::ok();
  return base::invalid_argument(
      "plan", fmt::format("features of {} soft tokens come to {} of at most {}", num_tokens,
                          num_tokens_, max_tokens_));
}

Status FeatureStore::put(const PictureKey& key, model::Features features) {
  if (features_.contains(key)) {
    return base::invalid_argument("plan", "features of a picture come twice");
  }
  if (auto status = check_room(features.num_tokens()); !status) return status;
  num_tokens_ += features.num_tokens();
  features_.emplace(key, std::move(features));
  return Status::ok();
}

Status FeatureStore::drop(const PictureKey& key) {
  const auto it = features_.find(key);
  if (it == features_.end()) {
    return base::invalid_argument("plan", "drop of features that are not kept");
  }
  num_tokens_ -= it->second.num_tokens();
  features_.erase(it);
  return Status::ok();
}

}  // namespace beryl::engine
