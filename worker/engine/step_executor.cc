#include "worker/engine/step_executor.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "worker/engine/prompt_logprobs.h"

namespace beryl::engine {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kNotANumber = "the model's output is not a number; the request was ended";
constexpr const char* kAllForbidden = "no token is left that the request allows";

uint32_t microseconds_since(Clock::time_point start) {
  const auto spent = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start);
  return static_cast<uint32_t>(std::clamp<int64_t>(spent.count(), 0, UINT32_MAX));
}

}  // namespace

StepExecutor::StepExecutor(ForwardPass& forward, kernels::Ops& ops, const wire::GroupLimits& limits,
                           uint32_t rank, FeatureJobs* feature_jobs)
    : forward_(forward),
      ops_(ops),
      limits_(limits),
      rank_(rank),
      requests_(limits_),
      features_(limits.cache.num_feature_tokens()),
      feature_jobs_(feature_jobs) {
  const size_t max_rows = std::max(1U, limits.cache.max_num_seqs());
  sampled_memory_ =
      static_cast<kernels::SampledToken*>(ops.allocate(max_rows * sizeof(kernels::SampledToken)));
}

StepExecutor::~StepExecutor() {
  ops_.free(sampled_memory_);
}

base::Expected<wire::StepResult> StepExecutor::execute(const wire::StepPlan& plan) {
  const Clock::time_point start = Clock::now();
  if (auto status = apply(plan); !status) return status.error();
  arrays_.build(plan, requests_, features_, limits_.cache.block_size());
  if (auto status = forward_.forward(arrays_.batch(plan)); !status) return status.error();

  const Clock::time_point forward_end = Clock::now();
  outputs_.assign(static_cast<size_t>(plan.rows_size()), {});
  compute_prompt_logprobs(plan);
  sample(plan);
  finish_rows(plan);

  wire::StepResult result;
  result.set_epoch(plan.epoch());
  result.set_step(plan.step());
  for (wire::Output& output : outputs_) {
    const bool says_something =
        output.tokens_size() > 0 || output.prompt_size() > 0 || !output.error().empty();
    if (says_something) *result.add_outputs() = std::move(output);
  }
  result.mutable_times()->set_total_us(microseconds_since(start));
  result.mutable_times()->set_sample_us(microseconds_since(forward_end));
  return result;
}

base::Status StepExecutor::apply(const wire::StepPlan& plan) {
  if (auto status = wire::validate(plan, limits_, rank_); !status) return status;
  if (plan.step() != last_step_ + 1) {
    return base::invalid_argument("plan",
                                  fmt::format("step {} follows {}", plan.step(), last_step_));
  }
  last_step_ = plan.step();
  if (auto status = apply_releases(plan); !status) return status;
  for (const wire::Admission& admission : plan.admissions()) {
    if (auto status = requests_.admit(admission); !status) return status;
  }
  if (auto status = run_feature_jobs(plan); !status) return status;
  return apply_rows(plan);
}

base::Status StepExecutor::apply_releases(const wire::StepPlan& plan) {
  for (const uint32_t handle : plan.releases()) {
    if (auto status = requests_.release(handle); !status) return status;
  }
  for (const wire::PictureKey& key : plan.feature_drops()) {
    if (auto status = features_.drop(picture_key(key)); !status) return status;
  }
  return base::Status::ok();
}

base::Status StepExecutor::run_feature_jobs(const wire::StepPlan& plan) {
  if (plan.feature_jobs().empty()) return base::Status::ok();
  if (feature_jobs_ == nullptr) {
    return base::invalid_argument("plan", "feature jobs for a group that reads text only");
  }
  return feature_jobs_->run(plan, features_);
}

base::Status StepExecutor::apply_rows(const wire::StepPlan& plan) {
  std::vector<bool> has_row(limits_.cache.max_num_seqs());
  for (const wire::Row& row : plan.rows()) {
    if (has_row[row.handle()]) {
      return base::invalid_argument("plan", fmt::format("two rows of handle {}", row.handle()));
    }
    has_row[row.handle()] = true;
    if (auto status = requests_.extend(row); !status) return status;
    if (auto status = check_features(row); !status) return status;
  }
  return base::Status::ok();
}

base::Status StepExecutor::check_features(const wire::Row& row) const {
  for (const PictureSpan& picture : requests_.at(row.handle()).pictures) {
    if (picture.end() <= row.start() || picture.start >= row.start() + row.count()) continue;
    const model::Features* features = features_.find(picture.key);
    if (features == nullptr || features->num_tokens() != picture.num_tokens) {
      return base::invalid_argument(
          "plan",
          fmt::format("row of handle {} needs features of {} soft tokens at {}, kept are {}",
                      row.handle(), picture.num_tokens, picture.start,
                      features == nullptr ? 0 : features->num_tokens()));
    }
  }
  return base::Status::ok();
}

void StepExecutor::compute_prompt_logprobs(const wire::StepPlan& plan) {
  const auto vocab_size = static_cast<size_t>(limits_.model.vocab_size());
  const int num_wanted = arrays_.num_prompt_logits();
  for (int begin = 0; begin < num_wanted; begin += forward_.max_logits_rows()) {
    const int end = std::min(num_wanted, begin + forward_.max_logits_rows());
    const kernels::TensorView logits = forward_.logits(begin, end);
    for (int i = begin; i < end; ++i) {
      const WantedLogits& wanted = arrays_.wanted()[static_cast<size_t>(i)];
      RequestState& state = requests_.at(plan.rows(wanted.row_idx).handle());
      logits_row_.resize(vocab_size);
      ops_.download(logits_row_.data(), logits.f32() + static_cast<size_t>(i - begin) * vocab_size,
                    vocab_size * sizeof(float));
      auto token = token_logprob(logits_row_, state.token_at(wanted.position + 1),
                                 state.sampling.num_prompt_logprobs());
      if (token) {
        *output_of(wanted.row_idx).add_prompt() = *std::move(token);
      } else {
        state.failed = true;
      }
    }
  }
}

// All slices are started before any token is waited for: a device computes meanwhile.
void StepExecutor::sample(const wire::StepPlan& plan) {
  const int first = arrays_.num_prompt_logits();
  const int num_wanted = static_cast<int>(arrays_.wanted().size());
  if (first == num_wanted) return;
  for (int begin = first; begin < num_wanted; begin += forward_.max_logits_rows()) {
    start_slice(plan, begin, std::min(num_wanted, begin + forward_.max_logits_rows()));
  }
  sampled_.resize(static_cast<size_t>(num_wanted - first));
  ops_.download(sampled_.data(), sampled_memory_, sampled_.size() * sizeof(kernels::SampledToken));
  for (int i = first; i < num_wanted; ++i) {
    const int row_idx = arrays_.wanted()[static_cast<size_t>(i)].row_idx;
    take_token(plan.rows(row_idx), sampled_[static_cast<size_t>(i - first)], output_of(row_idx));
  }
}

void StepExecutor::start_slice(const wire::StepPlan& plan, int begin, int end) {
  sampling_rows_.clear();
  for (int i = begin; i < end; ++i) {
    const WantedLogits& wanted = arrays_.wanted()[static_cast<size_t>(i)];
    const RequestState& state = requests_.at(plan.rows(wanted.row_idx).handle());
    sampling_rows_.push_back(
        state.sampling.row(wanted.position + 1, state.failed ? 0 : state.num_output_tokens()));
  }
  ops_.sample(forward_.logits(begin, end), {.rows = sampling_rows_.data(), .num_rows = end - begin},
              sampled_memory_ + (begin - arrays_.num_prompt_logits()));
}

void StepExecutor::take_token(const wire::Row& row, const kernels::SampledToken& sampled,
                              wire::Output& output) {
  RequestState& state = requests_.at(row.handle());
  if (sampled.has_nan || sampled.all_forbidden) {
    if (sampled.all_forbidden) output.set_error(kAllForbidden);
    state.failed = true;
  }
  if (state.failed) return;
  state.token_ids.push_back(sampled.token_id);
  state.sampling.count_output_token(sampled.token_id);
  wire::Token& token = *output.add_tokens();
  token.set_token_id(static_cast<uint32_t>(sampled.token_id));
  token.set_logprob(sampled.logprob);
  for (int i = 0; i < sampled.num_top; ++i) {
    token.add_top_token_ids(static_cast<uint32_t>(sampled.top[i].token_id));
    token.add_top_logprobs(sampled.top[i].logprob);
  }
}

void StepExecutor::finish_rows(const wire::StepPlan& plan) {
  for (int i = 0; i < plan.rows_size(); ++i) {
    const wire::Row& row = plan.rows(i);
    RequestState& state = requests_.at(row.handle());
    state.num_computed_tokens = row.start() + row.count();
    wire::Output& output = output_of(i);
    output.set_handle(row.handle());
    output.set_position(row.start() + row.count());
    if (!state.failed) continue;
    output.clear_tokens();
    output.clear_prompt();
    if (output.error().empty()) output.set_error(kNotANumber);
  }
}

}  // namespace beryl::engine
