// How the API behaves, set once at start.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/media/media_options.h"

namespace beryl::api {

// What a request leaves open. Precedence: request, server flag, generation_config.json, built in.
struct SamplingDefaults {
  std::optional<float> temperature = {};
  std::optional<float> top_p = {};
  std::optional<float> min_p = {};
  std::optional<float> repetition_penalty = {};
  std::optional<uint32_t> top_k = {};
};

// `over` wins where it says something.
SamplingDefaults merge(const SamplingDefaults& over, const SamplingDefaults& under);

// Limits of what one request may ask for.
struct RequestLimits {
  uint32_t max_choices = 128;             // n
  uint32_t max_prompts = 256;             // list of prompts in /v1/completions
  uint32_t max_sequences = 1024;          // prompts x n
  uint32_t max_top_logprobs = 20;         // also prompt_logprobs and logprobs of /v1/completions
  size_t max_logit_bias = 1'024;          // entries
  size_t max_stop_token_ids = 128;        // entries
  size_t max_allowed_token_ids = 16'384;  // entries
  size_t max_tools = 512;
  size_t max_chat_body_bytes = size_t{64} << 20;
  size_t max_text_body_bytes = size_t{16} << 20;  // completions, tokenize, detokenize
  // Tokens that wait for a client which reads slowly; beyond it the stream is cut.
  size_t max_held_events = 32'768;
};

// Names of the field that carries the thinking text.
enum class ReasoningField { kBoth, kReasoning, kReasoningContent };

struct ServerOptions {
  std::vector<std::string> served_model_names;  // never empty; the first is the one shown
  std::string version = "0.1.0";
  std::vector<std::string> api_keys;  // empty: no key needed
  bool metrics_need_key = false;
  SamplingDefaults sampling;           // merged
  std::vector<int32_t> eos_token_ids;  // empty: those of the tokenizer
  bool enable_thinking = false;        // where the request does not say
  ReasoningField reasoning_field = ReasoningField::kBoth;
  std::chrono::seconds request_timeout{3'600};  // of one generation
  RequestLimits limits;
  media::MediaOptions media;
};

}  // namespace beryl::api
