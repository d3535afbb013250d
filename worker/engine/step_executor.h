// StepExecutor: turns a StepPlan into a StepResult on one rank. It holds the state of this rank's
// requests for one epoch and decides nothing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "parallel/base/expected.h"
#include "parallel/wire/validate.h"
#include "worker/engine/batch_arrays.h"
#include "worker/engine/feature_jobs.h"
#include "worker/engine/feature_store.h"
#include "worker/engine/forward_pass.h"
#include "worker/engine/request_table.h"

namespace beryl::engine {

class StepExecutor {
 public:
  // `forward`, `ops` and `feature_jobs` must outlive it. `limits` are of this epoch. Without
  // feature jobs a plan that has some is an error: this group reads text only.
  StepExecutor(ForwardPass& forward, kernels::Ops& ops, const wire::GroupLimits& limits,
               uint32_t rank, FeatureJobs* feature_jobs = nullptr);
  ~StepExecutor();
  StepExecutor(const StepExecutor&) = delete;
  StepExecutor& operator=(const StepExecutor&) = delete;

  // Collective over the group, also with no rows. An error (a plan that contradicts this rank's
  // state, a lost exchange) ends the epoch. A single request's failure is an output with an error.
  base::Expected<wire::StepResult> execute(const wire::StepPlan& plan);

  uint64_t last_step() const { return last_step_; }
  size_t num_requests() const { return requests_.num_requests(); }

 private:
  base::Status apply(const wire::StepPlan& plan);
  base::Status apply_releases(const wire::StepPlan& plan);
  base::Status run_feature_jobs(const wire::StepPlan& plan);
  base::Status apply_rows(const wire::StepPlan& plan);
  base::Status check_features(const wire::Row& row) const;
  void compute_prompt_logprobs(const wire::StepPlan& plan);
  void sample(const wire::StepPlan& plan);
  void start_slice(const wire::StepPlan& plan, int begin, int end);
  void take_token(const wire::Row& row, const kernels::SampledToken& sampled, wire::Output& output);
  void finish_rows(const wire::StepPlan& plan);
  wire::Output& output_of(int row_idx) { return outputs_[static_cast<size_t>(row_idx)]; }

  ForwardPass& forward_;
  kernels::Ops& ops_;
  const wire::GroupLimits limits_;
  const uint32_t rank_;
  RequestTable requests_;
  FeatureStore features_;
  FeatureJobs* feature_jobs_;
  BatchArrays arrays_;
  std::vector<wire::Output> outputs_;  // [rows of this step]
  std::vector<kernels::SamplingRow> sampling_rows_;
  std::vector<kernels::SampledToken> sampled_;
  kernels::SampledToken* sampled_memory_ = nullptr;  // of ops_, [max_num_seqs]
  std::vector<float> logits_row_;                    // [vocab_size] for prompt log-probabilities
  uint64_t last_step_ = 0;
};

}  // namespace beryl::engine
