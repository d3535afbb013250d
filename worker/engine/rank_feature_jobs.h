// RankFeatureJobs: feature jobs done with this rank's vision tower and the group's communicator.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "kernels/ops.h"
#include "parallel/comm/communicator.h"
#include "worker/engine/feature_jobs.h"
#include "worker/model/vision_tower.h"

namespace beryl::engine {

struct Picture {
  int height = 0;  // pixels
  int width = 0;
  std::string pixels;  // [height, width, 3], red first
};

// Where the pixels of a picture are waited for.
class PictureSource {
 public:
  virtual ~PictureSource() = default;

  // The picture leaves the source. Fails when it does not come in time.
  virtual base::Expected<Picture> take(const PictureKey& key) = 0;
};

// What the jobs work with; everything must outlive them.
struct FeatureJobParts {
  model::VisionTower& tower;
  kernels::Ops& ops;
  comm::Communicator& communicator;
  PictureSource& pictures;
  int hidden_size = 0;  // of the decoder
};

class RankFeatureJobs final : public FeatureJobs {
 public:
  explicit RankFeatureJobs(const FeatureJobParts& parts) : parts_(parts) {}

  // Every rank first encodes what it is the source of, all pictures together and side by side with
  // the other ranks. Then the jobs are done in order, with one exchange for as many as do not
  // depend on each other, and none where nothing crosses ranks.
  base::Status run(const wire::StepPlan& plan, FeatureStore& store) override;

 private:
  using Job = wire::FeatureJob;
  using Round = std::span<const Job* const>;

  base::Status encode(const wire::StepPlan& plan);
  base::Expected<Picture> take(const Job& job);
  base::Status do_round(Round jobs, FeatureStore& store);
  base::Status check_round(Round jobs, const FeatureStore& store) const;
  base::Status exchange(Round jobs, FeatureStore& store);
  // Of a job whose source is this rank; null: it does not have them.
  const model::Features* find(const Job& job, const FeatureStore& store) const;
  bool is_source(const Job& job) const;
  bool is_destination(const Job& job) const;
  size_t bytes_of(const Job& job) const;
  model::Features copy_of(const kernels::TensorView& rows) const;
  model::Features from_host(const void* rows, int64_t num_tokens) const;

  FeatureJobParts parts_;
  std::map<PictureKey, model::Features> made_;  // by this rank in this step
};

}  // namespace beryl::engine
