#include "parallel/wire/validate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "parallel/wire/limits.h"

namespace beryl::wire {
namespace {

base::Error bad(std::string message) {
  return base::Error{base::ErrorCode::kInvalidArgument, std::move(message), "message", {}};
}

base::Status check_range(const char* name, uint64_t value, uint64_t low, uint64_t high) {
  if (value >= low && value <= high) return base::Status::ok();
  return bad(fmt::format("{} is {}, legal is {} to {}", name, value, low, high));
}

base::Status check_name(const char* name, const std::string& text) {
  if (text.size() <= kMaxNameBytes && clean_reason(text) == text) return base::Status::ok();
  return bad(fmt::format("{} has {} bytes or is not printable", name, text.size()));
}

template <typename Ids>
base::Status check_ids(const char* name, const Ids& ids, uint32_t end) {
  for (const uint32_t id : ids) {
    if (id >= end) return bad(fmt::format("{} holds {}, the end is {}", name, id, end));
  }
  return base::Status::ok();
}

// The first failure of a list of checks.
template <typename... Checks>
base::Status all_of(Checks&&... checks) {
  base::Status status;
  (void)((status = checks(), status.is_ok()) && ...);
  return status;
}

base::Status validate_model(const ModelFacts& model) {
  return all_of(
      [&] { return check_range("vocab_size", model.vocab_size(), 1, kMaxVocabSize); },
      [&] { return check_range("max_model_len", model.max_model_len(), 1, kMaxModelLen); },
      [&] { return check_range("sliding_window", model.sliding_window(), 1, kMaxModelLen); },
      [&] { return check_range("num_hidden_layers", model.num_hidden_layers(), 1, kMaxLayers); },
      [&] { return check_range("num_experts", model.num_experts(), 0, kMaxExperts); },
      [&] { return check_range("top_k_experts", model.top_k_experts(), 0, model.num_experts()); },
      [&] {
        return check_range("forbidden_token_ids",
                           static_cast<uint64_t>(model.forbidden_token_ids_size()), 0,
                           kMaxForbiddenTokenIds);
      },
      [&] {
        return check_ids("forbidden_token_ids", model.forbidden_token_ids(), model.vocab_size());
      });
}

base::Status validate_cache(const CacheFacts& cache) {
  return all_of([&] { return check_range("block_size", cache.block_size(), 1, kMaxBlockSize); },
                [&] { return check_range("num_pages", cache.num_pages(), 1, kMaxBlocks); },
                [&] {
                  return check_range("global_blocks_per_page", cache.global_blocks_per_page(), 1,
                                     kMaxBlocks / cache.num_pages());
                },
                [&] { return check_range("max_num_seqs", cache.max_num_seqs(), 1, kMaxSeqs); },
                [&] {
                  return check_range("max_num_batched_tokens", cache.max_num_batched_tokens(), 1,
                                     kMaxBatchedTokens);
                },
                [&] {
                  return check_range("num_feature_tokens", cache.num_feature_tokens(), 0,
                                     kMaxFeatureTokens);
                },
                [&] {
                  return check_range("max_picture_patches", cache.max_picture_patches(),
                                     cache.num_feature_tokens() > 0 ? 1 : 0, kMaxPicturePatches);
                });
}

bool in_range(float value, float low, float high) {
  return value >= low && value <= high;  // false for NaN
}

base::Status validate_sampling(const SamplingParams& sampling, uint32_t vocab_size) {
  constexpr float kBig = std::numeric_limits<float>::max();
  if (!in_range(sampling.temperature(), 0, kBig) || !in_range(sampling.top_p(), 0, 1) ||
      !in_range(sampling.min_p(), 0, 1) || !(sampling.repetition_penalty() > 0) ||
      !in_range(sampling.repetition_penalty(), 0, kBig) ||
      !in_range(sampling.presence_penalty(), -kBig, kBig) ||
      !in_range(sampling.frequency_penalty(), -kBig, kBig)) {
    return bad("a sampling parameter is out of range");
  }
  if (sampling.num_top_logprobs() < -1 || sampling.num_top_logprobs() > kMaxTopLogprobs ||
      sampling.num_prompt_logprobs() < -1 || sampling.num_prompt_logprobs() > kMaxTopLogprobs) {
    return bad("a number of log-probabilities is out of range");
  }
  if (sampling.logit_bias_size() > kMaxLogitBias ||
      sampling.stop_token_ids_size() > kMaxStopTokenIds) {
    return bad("too many biases or stop ids");
  }
  for (const LogitBias& bias : sampling.logit_bias()) {
    if (bias.token_id() >= vocab_size || !in_range(bias.bias(), -kBig, kBig)) {
      return bad(fmt::format("logit_bias of token {}", bias.token_id()));
    }
  }
  return all_of(
      [&] { return check_ids("stop_token_ids", sampling.stop_token_ids(), vocab_size); },
      [&] { return check_ids("allowed_token_ids", sampling.allowed_token_ids(), vocab_size); });
}

// Ascending, apart from each other, within the prompt, each small enough for the features' cache.
base::Status validate_pictures(const Admission& admission, const GroupLimits& limits) {
  const uint32_t longest =
      std::min(limits.cache.num_feature_tokens(), limits.cache.max_num_batched_tokens());
  uint64_t previous_end = 0;
  for (const PictureSpan& span : admission.pictures()) {
    const uint64_t end = uint64_t{span.start()} + span.num_tokens();
    if (!span.has_key() || span.start() < previous_end || end > admission.num_prompt_tokens() ||
        span.num_tokens() == 0 || span.num_tokens() > longest) {
      return bad(
          fmt::format("picture of handle {} from {} to {}, expected from {} to {}, of 1 to {} "
                      "tokens, with a key",
                      admission.handle(), span.start(), end, previous_end,
                      admission.num_prompt_tokens(), longest));
    }
    previous_end = end;
  }
  return base::Status::ok();
}

base::Status validate_admission(const Admission& admission, const GroupLimits& limits) {
  const auto num_tokens = static_cast<uint64_t>(admission.token_ids_size());
  return all_of(
      [&] { return check_range("handle", admission.handle(), 0, limits.cache.max_num_seqs() - 1); },
      [&] { return check_range("token_ids", num_tokens, 1, limits.model.max_model_len()); },
      [&] {
        return check_range("num_prompt_tokens", admission.num_prompt_tokens(), 1, num_tokens);
      },
      [&] { return check_ids("token_ids", admission.token_ids(), limits.model.vocab_size()); },
      [&] { return validate_pictures(admission, limits); },
      [&] { return validate_sampling(admission.sampling(), limits.model.vocab_size()); });
}

base::Status validate_row(const Row& row, const GroupLimits& limits) {
  const CacheFacts& cache = limits.cache;
  return all_of(
      [&] { return check_range("handle", row.handle(), 0, cache.max_num_seqs() - 1); },
      [&] { return check_range("count", row.count(), 1, cache.max_num_batched_tokens()); },
      [&] {
        return check_range("end of row", uint64_t{row.start()} + row.count(), 1,
                           limits.model.max_model_len());
      },
      [&] {
        return check_ids("new_global_blocks", row.new_global_blocks(),
                         cache.num_pages() * cache.global_blocks_per_page());
      },
      [&] { return check_ids("new_sliding_blocks", row.new_sliding_blocks(), cache.num_pages()); });
}

// The part of a plan that is equal on all ranks.
base::Status validate_shape(const StepPlan& plan, const GroupLimits& limits) {
  if (plan.epoch() != limits.epoch) {
    return bad(fmt::format("plan of epoch {}, this is {}", plan.epoch(), limits.epoch));
  }
  if (plan.step() == 0) return bad("step 0");
  if (plan.mode() != STEP_MODE_PADDED && plan.mode() != STEP_MODE_EXACT) {
    return bad(fmt::format("step mode {}", static_cast<int>(plan.mode())));
  }
  if (plan.rank_rows_size() != static_cast<int>(limits.num_ranks)) {
    return bad(fmt::format("rank_rows of {} ranks, the group has {}", plan.rank_rows_size(),
                           limits.num_ranks));
  }
  for (const uint32_t rows : plan.rank_rows()) {
    if (rows > limits.cache.max_num_batched_tokens()) return bad("rank_rows above the limit");
    if (plan.mode() == STEP_MODE_PADDED && rows > plan.bucket()) return bad("bucket overflows");
  }
  return check_range("bucket", plan.bucket(), 0, limits.cache.max_num_batched_tokens());
}

// Jobs and this rank's drops. That features fit, and are where they are sent from, depends on what
// is kept: the worker checks it.
base::Status validate_features(const StepPlan& plan, const GroupLimits& limits) {
  if (plan.feature_drops_size() > kMaxFeatureDrops || plan.feature_jobs_size() > kMaxFeatureJobs) {
    return bad(fmt::format("{} feature drops and {} feature jobs", plan.feature_drops_size(),
                           plan.feature_jobs_size()));
  }
  if (plan.feature_jobs_size() > 0 && limits.cache.num_feature_tokens() == 0) {
    return bad("feature jobs for a group that reads text only");
  }
  if (plan.mode() == STEP_MODE_PADDED && plan.feature_jobs_size() > 0) {
    return bad("feature jobs in padded mode");
  }
  for (const FeatureJob& job : plan.feature_jobs()) {
    if (!job.has_key()) return bad("a feature job without a key");
    if (!job.encode() && job.source() == job.destination()) return bad("features move nowhere");
    auto status = all_of(
        [&] { return check_range("source", job.source(), 0, limits.num_ranks - 1); },
        [&] { return check_range("destination", job.destination(), 0, limits.num_ranks - 1); },
        [&] {
          return check_range("tokens of a feature job", job.num_tokens(), 1,
                             limits.cache.num_feature_tokens());
        });
    if (!status) return status;
  }
  return base::Status::ok();
}

base::Status validate_token(const Token& token, uint32_t vocab_size) {
  if (token.token_id() >= vocab_size) {
    return bad(fmt::format("token {} of a vocabulary of {}", token.token_id(), vocab_size));
  }
  if (std::isnan(token.logprob()) || token.top_token_ids_size() > kMaxTopLogprobs ||
      token.top_token_ids_size() != token.top_logprobs_size()) {
    return bad("malformed log-probabilities");
  }
  if (std::any_of(token.top_logprobs().begin(), token.top_logprobs().end(),
                  [](float value) { return std::isnan(value); })) {
    return bad("log-probability that is no number");
  }
  return check_ids("top_token_ids", token.top_token_ids(), vocab_size);
}

base::Status validate_output(const Output& output, const GroupLimits& limits) {
  if (output.tokens_size() > kMaxTokensPerOutput) return bad("too many tokens in one output");
  if (output.prompt_size() > static_cast<int>(limits.cache.max_num_batched_tokens())) {
    return bad("too many prompt log-probabilities in one output");
  }
  if (output.error().size() > kMaxReasonBytes) return bad("too long an error");
  for (const auto* tokens : {&output.tokens(), &output.prompt()}) {
    for (const Token& token : *tokens) {
      if (auto status = validate_token(token, limits.model.vocab_size()); !status) return status;
    }
  }
  return all_of(
      [&] { return check_range("handle", output.handle(), 0, limits.cache.max_num_seqs() - 1); },
      [&] { return check_range("position", output.position(), 0, limits.model.max_model_len()); });
}

}  // namespace

base::Status validate(const Registration& registration) {
  return all_of(
      [&] { return check_range("launch_id", registration.launch_id().size(), 1, kMaxNameBytes); },
      [&] { return check_name("launch_id", registration.launch_id()); },
      [&] { return check_range("group", registration.group(), 0, kMaxGroups - 1); },
      [&] { return check_range("num_ranks", registration.num_ranks(), 1, kMaxRanks); },
      [&] { return check_range("rank", registration.rank(), 0, registration.num_ranks() - 1); },
      [&] { return check_name("host", registration.host()); },
      [&] { return check_name("device", registration.device()); },
      [&] { return check_name("version", registration.version()); },
      [&] { return validate_model(registration.model()); },
      [&] { return validate_cache(registration.cache()); });
}

base::Status validate(const Welcome& welcome) {
  return all_of(
      [&] {
        return check_range("epoch", welcome.epoch(), 1, std::numeric_limits<uint64_t>::max());
      },
      [&] {
        return check_range("heartbeat_interval_ms", welcome.heartbeat_interval_ms(), 1,
                           kMaxHeartbeatMs);
      },
      [&] {
        return check_range("heartbeat_deadline_ms", welcome.heartbeat_deadline_ms(),
                           welcome.heartbeat_interval_ms(), kMaxHeartbeatMs);
      },
      [&] {
        return check_range("step_deadline_ms", welcome.step_deadline_ms(), 1, kMaxStepDeadlineMs);
      });
}

base::Status validate(const StepPlan& plan, const GroupLimits& limits, uint32_t rank) {
  if (auto status = validate_shape(plan, limits); !status) return status;
  if (auto status = check_ids("releases", plan.releases(), limits.cache.max_num_seqs()); !status) {
    return status;
  }
  if (auto status = validate_features(plan, limits); !status) return status;
  uint64_t num_rows = 0;
  for (const Admission& admission : plan.admissions()) {
    if (auto status = validate_admission(admission, limits); !status) return status;
  }
  for (const Row& row : plan.rows()) {
    if (auto status = validate_row(row, limits); !status) return status;
    num_rows += row.count();
    if (plan.mode() == STEP_MODE_PADDED && row.count() != 1) return bad("long row in padded mode");
  }
  const uint32_t expected = plan.rank_rows(static_cast<int>(rank));
  if (num_rows != expected) {
    return bad(fmt::format("rows of {} positions, rank_rows says {}", num_rows, expected));
  }
  return base::Status::ok();
}

base::Status validate(const StepResult& result, const GroupLimits& limits) {
  if (result.epoch() != limits.epoch) {
    return bad(fmt::format("result of epoch {}, this is {}", result.epoch(), limits.epoch));
  }
  if (result.step() == 0) return bad("result of step 0");
  if (result.error().size() > kMaxReasonBytes) return bad("too long an error");
  if (result.outputs_size() > static_cast<int>(limits.cache.max_num_seqs())) {
    return bad(fmt::format("{} outputs", result.outputs_size()));
  }
  for (const Output& output : result.outputs()) {
    if (auto status = validate_output(output, limits); !status) return status;
  }
  return base::Status::ok();
}

std::string clean_reason(std::string_view text) {
  std::string out(text.substr(0, kMaxReasonBytes));
  for (char& c : out) {
    if (c < 0x20 || c > 0x7E) c = '?';
  }
  return out;
}

}  // namespace beryl::wire
