// Which fields of a request exist: served, tolerated, not served yet, refused on purpose.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "coordinator/api/generation_fields.h"

namespace beryl::api {
namespace {

using base::Error;
using base::ErrorCode;
using base::Status;
using Kind = Json::Kind;

// Known and not served yet; null, false and empty values are as good as absent.
constexpr std::string_view kNotImplemented[] = {
    "structured_outputs",   "guided_json",    "guided_regex",
    "guided_choice",        "guided_grammar", "grammar",
    "json_schema",          "regex",          "ebnf",
    "structural_tag",       "bad_words",      "thinking_token_budget",
    "logprob_token_ids",    "documents",      "truncate_prompt_tokens",
    "repetition_detection",
};

// Refused on purpose.
constexpr std::string_view kRefused[] = {
    "use_beam_search",  // no beams
    "prompt_embeds",    // tensors of callers are not taken
    "chat_template",    // templates of callers are not run
    "suffix",           // the model has no infilling
};

constexpr std::string_view kServed[] = {"model",
                                        "messages",
                                        "prompt",
                                        "stream",
                                        "stream_options",
                                        "stop",
                                        "stop_token_ids",
                                        "allowed_token_ids",
                                        "logit_bias",
                                        "logprobs",
                                        "echo",
                                        "tools",
                                        "tool_choice",
                                        "parallel_tool_calls",
                                        "response_format",
                                        "reasoning_effort",
                                        "chat_template_kwargs",
                                        "include_reasoning",
                                        "mm_processor_kwargs",
                                        "media_io_kwargs",
                                        "add_generation_prompt",
                                        "continue_final_message",
                                        "add_special_tokens",
                                        "ignore_eos",
                                        "include_stop_str_in_output",
                                        "skip_special_tokens",
                                        "return_token_ids",
                                        "request_id"};

// Taken and without effect here.
constexpr std::string_view kTolerated[] = {"user",
                                           "store",
                                           "metadata",
                                           "service_tier",
                                           "safety_identifier",
                                           "prompt_cache_key",
                                           "prompt_cache_retention",
                                           "verbosity",
                                           "prediction",
                                           "modalities",
                                           "functions",
                                           "function_call",
                                           "spaces_between_special_tokens",
                                           "cache_prompt",
                                           "session_id",
                                           "cache_salt",
                                           "length_penalty",
                                           "stream_interval",
                                           "guided_decoding_backend",
                                           "kv_transfer_params",
                                           "vllm_xargs",
                                           "timings_per_token",
                                           "return_progress",
                                           "reasoning_format"};

template <size_t size>
bool contains(const std::string_view (&names)[size], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

bool says_something(const Json& value) {
  switch (value.kind) {
    case Kind::kNull:
      return false;
    case Kind::kBool:
      return value.boolean;
    case Kind::kString:
      return !value.text.empty();
    case Kind::kArray:
    case Kind::kObject:
      return !value.children.empty();
    case Kind::kNumber:
      return true;
  }
  return true;
}

Status check_response_format(const Json& body) {
  const Json* value = body.find_set("response_format");
  if (value == nullptr) return Status::ok();
  if (!value->is(Kind::kObject)) return wrong_type("response_format", "an object", *value);
  const Json* type = value->find_set("type");
  if (type == nullptr || !type->is(Kind::kString)) {
    return base::invalid_argument("response_format.type", "response_format.type must be a string.");
  }
  if (type->text == "text") return Status::ok();
  if (type->text == "json_schema") {
    const Json* schema = value->find_set("json_schema");
    if (schema == nullptr || !schema->is(Kind::kObject)) {
      return base::invalid_argument("response_format.json_schema",
                                    "response_format.json_schema must be an object.");
    }
  } else if (type->text != "json_object") {
    return base::invalid_argument("response_format.type",
                                  "response_format.type must be text, json_object or json_schema.");
  }
  return Error{
      ErrorCode::kNotImplemented, "Structured output is not supported yet.", "response_format", {}};
}

}  // namespace

Status check_unsupported_fields(const Json& body) {
  for (const Json& member : body.children) {
    if (!says_something(member)) continue;
    if (contains(kNotImplemented, member.key)) {
      return Error{ErrorCode::kNotImplemented,
                   fmt::format("{} is not supported yet.", member.key),
                   std::string(member.key),
                   {}};
    }
    if (contains(kRefused, member.key)) {
      return base::invalid_argument(std::string(member.key),
                                    fmt::format("{} is not supported.", member.key));
    }
  }
  return check_response_format(body);
}

std::vector<std::string_view> unknown_fields(const Json& body) {
  std::vector<std::string_view> unknown;
  for (const Json& member : body.children) {
    const auto numeric = numeric_fields();
    const bool known = contains(kServed, member.key) || contains(kTolerated, member.key) ||
                       contains(kNotImplemented, member.key) || contains(kRefused, member.key) ||
                       std::any_of(numeric.begin(), numeric.end(), [&](const NumericField& field) {
                         return field.name == member.key;
                       });
    if (!known) unknown.push_back(member.key);
  }
  return unknown;
}

}  // namespace beryl::api
