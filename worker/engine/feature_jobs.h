// FeatureJobs: makes the features that a plan asks for, and brings them to the ranks that keep
// them.
#pragma once

#include "parallel/base/expected.h"
#include "parallel/wire/cluster.pb.h"
#include "worker/engine/feature_store.h"

namespace beryl::engine {

class FeatureJobs {
 public:
  virtual ~FeatureJobs() = default;

  // Collective: all ranks run the jobs of the plan, which are equal everywhere. Afterwards `store`
  // holds those whose destination is this rank. An error ends the epoch.
  virtual base::Status run(const wire::StepPlan& plan, FeatureStore& store) = 0;
};

}  // namespace beryl::engine
