// What the scheduler knows of a request, and what it says about it.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

namespace beryl::scheduler {

// Made by the coordinator, unique for its life; never chosen by a client.
using RequestId = uint64_t;

struct LogitBias {
  int32_t token_id = 0;
  float bias = 0;  // [-100, 100]
};

// Ranges are checked in coordinator/api; defaults here mean "off".
struct SamplingParams {
  float temperature = 1.0F;
  uint32_t top_k = 0;
  float top_p = 1.0F;
  float min_p = 0.0F;
  float repetition_penalty = 1.0F;
  float presence_penalty = 0.0F;
  float frequency_penalty = 0.0F;
  uint64_t seed = 0;
  uint32_t choice = 0;               // index among the n choices of one client request
  int32_t num_top_logprobs = -1;     // -1: no logprobs
  int32_t num_prompt_logprobs = -1;  // -1: none
  uint32_t min_tokens = 0;
  std::vector<LogitBias> logit_bias;
  std::vector<int32_t> allowed_token_ids;  // empty: all
};

// Names the content of a picture: equal pictures, equally prepared, have equal keys.
struct PictureKey {
  uint64_t high = 0;
  uint64_t low = 0;
  auto operator<=>(const PictureKey&) const = default;
};

// Soft tokens [start, start + num_tokens) of a prompt stand for a picture.
struct PictureSpan {
  PictureKey key;
  uint32_t start = 0;
  uint32_t num_tokens = 0;
  uint32_t num_patches = 0;  // what encoding costs

  uint32_t end() const { return start + num_tokens; }
};

struct NewRequest {
  RequestId id = 0;
  std::vector<int32_t> prompt_token_ids;  // never empty
  std::vector<PictureSpan> pictures;      // ascending, apart from each other, within the prompt
  SamplingParams sampling;
  uint32_t max_tokens = 0;              // >= 1; prompt + max_tokens <= max_model_len
  std::vector<int32_t> stop_token_ids;  // end of sequence included, unless ignore_eos
  int64_t deadline_us = 0;              // on the clock of `now`; 0 = none
  int32_t priority = 0;                 // lower = sooner
};

// A request on its way from the scheduler of a lost group to that of another.
struct MovedRequest {
  NewRequest spec;
  std::vector<int32_t> generated_token_ids;  // reported already
  uint32_t next_prompt_logprob = 1;          // index of the prompt token whose logprob is told next
  bool was_scheduled = false;
  uint32_t losses_without_progress = 0;
  uint32_t losses = 0;
};

enum class FinishReason {
  kStop,      // a stop token id; it is the last token reported
  kLength,    // max_tokens or the context limit
  kAborted,   // cancelled
  kDeadline,  // deadline_us passed
  kError,     // failed on the worker, or lost too often
};

struct TokenLogprob {
  int32_t token_id = 0;
  float logprob = 0;
};

struct GeneratedToken {
  int32_t token_id = 0;
  float logprob = 0;              // if logprobs were asked for
  std::vector<TokenLogprob> top;  // num_top_logprobs entries
};

// Each new token is said once, in order; exactly one event has `finished`. It is the last one and
// may carry the last token.
struct SchedulerEvent {
  RequestId request = 0;
  std::vector<GeneratedToken> tokens;
  std::vector<GeneratedToken> prompt_logprobs;  // of prompt tokens 1, 2, …, in order, in pieces
  bool first_scheduled = false;                 // left the waiting queue for the first time
  bool finished = false;
  FinishReason reason = FinishReason::kStop;
  int32_t stop_token_id = -1;  // kStop: which
  std::string error;           // kError: one line
};

}  // namespace beryl::scheduler
