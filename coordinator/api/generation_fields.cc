#include "coordinator/api/generation_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "coordinator/text/stop_matcher.h"

namespace beryl::api {
namespace {

using base::Status;
using Kind = Json::Kind;

constexpr double kInt32Min = -2147483648.0;
constexpr double kInt32Max = 2147483647.0;
constexpr double kInt64Bound = 9223372036854775808.0;  // integers that do not fit are no integers

constexpr NumericField kNumericFields[] = {
    {"temperature", Endpoint::kBoth, false, 0, 10, false},
    {"top_p", Endpoint::kBoth, false, 0, 1, false},
    {"min_p", Endpoint::kBoth, false, 0, 1, false},
    {"top_k", Endpoint::kBoth, true, -1, kInt32Max, false},
    {"repetition_penalty", Endpoint::kBoth, false, 0, 10, true},
    {"presence_penalty", Endpoint::kBoth, false, -2, 2, false},
    {"frequency_penalty", Endpoint::kBoth, false, -2, 2, false},
    {"seed", Endpoint::kBoth, true, -kInt64Bound, kInt64Bound, false},
    {"n", Endpoint::kBoth, true, 1, 128, false},
    {"max_tokens", Endpoint::kChat, true, 1, kInt32Max, false},
    {"max_tokens", Endpoint::kCompletions, true, 0, kInt32Max, false},
    {"max_completion_tokens", Endpoint::kChat, true, 1, kInt32Max, false},
    {"min_tokens", Endpoint::kBoth, true, 0, kInt32Max, false},
    {"top_logprobs", Endpoint::kChat, true, 0, 20, false},
    {"logprobs", Endpoint::kCompletions, true, 0, 20, false},
    {"prompt_logprobs", Endpoint::kBoth, true, 0, 20, false},
    {"best_of", Endpoint::kCompletions, true, 1, 128, false},
    {"priority", Endpoint::kBoth, true, kInt32Min, kInt32Max, false},
};

bool applies(const NumericField& field, Endpoint endpoint) {
  return field.endpoint == Endpoint::kBoth || field.endpoint == endpoint;
}

Status check_number(const NumericField& field, const Json& value) {
  const std::string param(field.name);
  if (!value.is(Kind::kNumber)) {
    return wrong_type(field.name, field.is_integer ? "an integer" : "a number", value);
  }
  if (field.is_integer && !value.is_integer) {
    return base::invalid_argument(param, fmt::format("{} must be an integer in range.", param));
  }
  const double number = value.number;
  const bool above = field.excludes_min ? number > field.min : number >= field.min;
  if (!(above && number <= field.max)) {
    return base::invalid_argument(
        param, fmt::format("{} must be {} {} and at most {}.", param,
                           field.excludes_min ? "more than" : "at least", field.min, field.max));
  }
  return Status::ok();
}

Status check_numbers(const Json& body, Endpoint endpoint) {
  for (const NumericField& field : kNumericFields) {
    if (!applies(field, endpoint)) continue;
    const Json* value = body.find_set(field.name);
    if (value == nullptr) continue;
    if (Status status = check_number(field, *value); !status) return status;
  }
  return Status::ok();
}

// After check_numbers(): absent, or in range.
std::optional<int64_t> integer(const Json& body, std::string_view name) {
  const Json* value = body.find_set(name);
  return value == nullptr ? std::nullopt : std::optional(value->integer);
}

float number_or(const Json& body, std::string_view name, float otherwise) {
  const Json* value = body.find_set(name);
  return value == nullptr ? otherwise : static_cast<float>(value->number);
}

void read_sampling(const Json& body, const FieldContext& context,
                   scheduler::SamplingParams& sampling) {
  const SamplingDefaults& defaults = context.options.sampling;
  sampling.temperature = number_or(body, "temperature", defaults.temperature.value_or(1.0F));
  // 0 means "only the most likely"; the sampler needs a mass above 0.
  sampling.top_p = std::max(number_or(body, "top_p", defaults.top_p.value_or(1.0F)), 1e-6F);
  sampling.min_p = number_or(body, "min_p", defaults.min_p.value_or(0.0F));
  sampling.repetition_penalty =
      number_or(body, "repetition_penalty", defaults.repetition_penalty.value_or(1.0F));
  sampling.presence_penalty = number_or(body, "presence_penalty", 0.0F);
  sampling.frequency_penalty = number_or(body, "frequency_penalty", 0.0F);
  const int64_t top_k = integer(body, "top_k").value_or(defaults.top_k.value_or(0));
  sampling.top_k = static_cast<uint32_t>(std::max<int64_t>(top_k, 0));
  const auto seed = integer(body, "seed");
  sampling.seed = seed ? static_cast<uint64_t>(*seed) : context.random_seed;
  sampling.min_tokens = static_cast<uint32_t>(integer(body, "min_tokens").value_or(0));
}

// A list of token ids of the vocabulary.
Status read_token_ids(const Json& body, std::string_view name, size_t max_ids, uint32_t vocab_size,
                      std::vector<int32_t>& out) {
  const Json* value = body.find_set(name);
  if (value == nullptr) return Status::ok();
  if (!value->is(Kind::kArray)) return wrong_type(name, "an array of token ids", *value);
  if (value->children.size() > max_ids) {
    return base::invalid_argument(std::string(name),
                                  fmt::format("{} has more than {} entries.", name, max_ids));
  }
  for (size_t i = 0; i < value->children.size(); ++i) {
    const Json& id = value->children[i];
    if (!id.is_integer || id.integer < 0 || id.integer >= vocab_size) {
      return base::invalid_argument(
          fmt::format("{}[{}]", name, i),
          fmt::format("{}[{}] is not a token id below {}.", name, i, vocab_size));
    }
    out.push_back(static_cast<int32_t>(id.integer));
  }
  return Status::ok();
}

Status read_logit_bias(const Json& body, const FieldContext& context,
                       scheduler::SamplingParams& sampling) {
  const Json* value = body.find_set("logit_bias");
  if (value == nullptr) return Status::ok();
  if (!value->is(Kind::kObject)) return wrong_type("logit_bias", "an object", *value);
  if (value->children.size() > context.options.limits.max_logit_bias) {
    return base::invalid_argument("logit_bias", fmt::format("logit_bias has more than {} entries.",
                                                            context.options.limits.max_logit_bias));
  }
  for (const Json& entry : value->children) {
    int32_t id = -1;
    const char* const end = entry.key.data() + entry.key.size();
    const auto parsed = std::from_chars(entry.key.data(), end, id);
    if (entry.key.empty() || parsed.ec != std::errc{} || parsed.ptr != end || id < 0 ||
        static_cast<uint32_t>(id) >= context.model.vocab_size) {
      return base::invalid_argument(
          "logit_bias",
          fmt::format("A key of logit_bias is not a token id below {}.", context.model.vocab_size));
    }
    if (!entry.is(Kind::kNumber) || !(entry.number >= -100 && entry.number <= 100)) {
      return base::invalid_argument("logit_bias",
                                    "Values of logit_bias must be numbers from -100 to 100.");
    }
    const auto same = [id](const scheduler::LogitBias& other) { return other.token_id == id; };
    std::erase_if(sampling.logit_bias, same);  // of equal keys the last counts
    sampling.logit_bias.push_back({id, static_cast<float>(entry.number)});
  }
  return Status::ok();
}

Status read_stops(const Json& body, GenerationFields& fields) {
  const Json* value = body.find_set("stop");
  if (value == nullptr) return Status::ok();
  if (value->is(Kind::kString)) {
    fields.stops.emplace_back(value->text);
  } else if (value->is(Kind::kArray)) {
    if (value->children.size() > text::kMaxStopStrings) {
      return base::invalid_argument(
          "stop", fmt::format("stop has more than {} strings.", text::kMaxStopStrings));
    }
    for (const Json& stop : value->children) {
      if (!stop.is(Kind::kString)) return wrong_type("stop", "a string or a list of strings", stop);
      fields.stops.emplace_back(stop.text);
    }
  } else {
    return wrong_type("stop", "a string or a list of strings", *value);
  }
  const auto matcher = text::StopMatcher::create(fields.stops, {});
  return matcher ? Status::ok() : Status(matcher.error());
}

Status read_stream_options(const Json& body, GenerationFields& fields) {
  const Json* value = body.find_set("stream_options");
  if (value == nullptr) return Status::ok();
  if (!value->is(Kind::kObject)) return wrong_type("stream_options", "an object", *value);
  if (!fields.stream) {
    return base::invalid_argument("stream_options", "stream_options needs \"stream\": true.");
  }
  const auto read = [value](std::string_view name, bool& out) {
    const Json* member = value->find_set(name);
    if (member == nullptr) return Status::ok();
    if (!member->is(Kind::kBool)) {
      return Status(wrong_type(fmt::format("stream_options.{}", name), "a boolean", *member));
    }
    out = member->boolean;
    return Status::ok();
  };
  bool ignored = false;
  if (Status status = read("include_usage", fields.include_usage); !status) return status;
  if (Status status = read("include_obfuscation", ignored); !status) return status;
  return read("continuous_usage_stats", fields.continuous_usage_stats);
}

Status read_flags(const Json& body, GenerationFields& fields) {
  const std::pair<std::string_view, bool*> flags[] = {
      {"stream", &fields.stream},
      {"ignore_eos", &fields.ignore_eos},
      {"include_stop_str_in_output", &fields.include_stop_str_in_output},
      {"skip_special_tokens", &fields.skip_special_tokens},
      {"return_token_ids", &fields.return_token_ids},
  };
  for (const auto& [name, flag] : flags) {
    if (Status status = read_bool(body, name, *flag); !status) return status;
  }
  return read_stream_options(body, fields);
}

void read_counts(const Json& body, Endpoint endpoint, GenerationFields& fields) {
  const auto as_count = [&body](std::string_view name) -> std::optional<uint32_t> {
    const auto value = integer(body, name);
    return value ? std::optional(static_cast<uint32_t>(*value)) : std::nullopt;
  };
  fields.num_choices = as_count("n").value_or(1);
  fields.max_tokens = as_count("max_tokens");
  if (endpoint == Endpoint::kChat) {
    if (const auto max = as_count("max_completion_tokens")) fields.max_tokens = max;
  }
  fields.top_logprobs = as_count(endpoint == Endpoint::kChat ? "top_logprobs" : "logprobs");
  fields.prompt_logprobs = as_count("prompt_logprobs");
  if (fields.prompt_logprobs) {
    fields.sampling.num_prompt_logprobs = static_cast<int32_t>(*fields.prompt_logprobs);
  }
  fields.priority = static_cast<int32_t>(integer(body, "priority").value_or(0));
}

Status check_consistency(const GenerationFields& fields, const FieldContext& context) {
  if (fields.num_choices > context.options.limits.max_choices) {
    return base::invalid_argument(
        "n", fmt::format("n must be at most {}.", context.options.limits.max_choices));
  }
  if (fields.max_tokens && fields.sampling.min_tokens > *fields.max_tokens) {
    return base::invalid_argument("min_tokens",
                                  fmt::format("min_tokens ({}) is more than max_tokens ({}).",
                                              fields.sampling.min_tokens, *fields.max_tokens));
  }
  if (fields.stream && fields.prompt_logprobs) {
    return base::invalid_argument("prompt_logprobs", "prompt_logprobs does not go with stream.");
  }
  return Status::ok();
}

}  // namespace

std::span<const NumericField> numeric_fields() {
  return kNumericFields;
}

base::Error wrong_type(std::string_view param, std::string_view wanted, const Json& value) {
  return base::invalid_argument(std::string(param), fmt::format("{} must be {}, not {}.", param,
                                                                wanted, kind_name(value.kind)));
}

Status read_bool(const Json& body, std::string_view name, bool& out) {
  const Json* value = body.find_set(name);
  if (value == nullptr) return Status::ok();
  if (!value->is(Kind::kBool)) return wrong_type(name, "a boolean", *value);
  out = value->boolean;
  return Status::ok();
}

Status read_string(const Json& body, std::string_view name, std::string& out) {
  const Json* value = body.find_set(name);
  if (value == nullptr) return Status::ok();
  if (!value->is(Kind::kString)) return wrong_type(name, "a string", *value);
  out = value->text;
  return Status::ok();
}

base::Expected<GenerationFields> parse_generation_fields(const Json& body, Endpoint endpoint,
                                                         const FieldContext& context) {
  GenerationFields fields;
  const RequestLimits& limits = context.options.limits;
  const uint32_t vocab_size = context.model.vocab_size;
  if (Status status = check_unsupported_fields(body); !status) return status.error();
  if (Status status = read_string(body, "model", fields.model); !status) return status.error();
  if (Status status = check_numbers(body, endpoint); !status) return status.error();
  read_sampling(body, context, fields.sampling);
  read_counts(body, endpoint, fields);
  if (Status status = read_flags(body, fields); !status) return status.error();
  if (Status status = read_stops(body, fields); !status) return status.error();
  if (Status status = read_token_ids(body, "stop_token_ids", limits.max_stop_token_ids, vocab_size,
                                     fields.stop_token_ids);
      !status) {
    return status.error();
  }
  if (Status status = read_token_ids(body, "allowed_token_ids", limits.max_allowed_token_ids,
                                     vocab_size, fields.sampling.allowed_token_ids);
      !status) {
    return status.error();
  }
  if (Status status = read_logit_bias(body, context, fields.sampling); !status) {
    return status.error();
  }
  if (Status status = check_consistency(fields, context); !status) return status.error();
  return fields;
}

}  // namespace beryl::api
