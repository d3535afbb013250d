#include "coordinator/api/completion_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace beryl::api {
namespace {

using base::Status;
using Kind = Json::Kind;

constexpr uint32_t kDefaultMaxTokens = 16;  // as OpenAI documents it

Status parse_prompt_list(const Json& list, const FieldContext& context,
                         std::vector<Prompt>& prompts) {
  if (list.children.empty()) return base::invalid_argument("prompt", "prompt is empty.");
  if (list.children[0].is(Kind::kNumber)) {
    auto ids = parse_token_list(list, "prompt", context.model.vocab_size);
    if (!ids) return ids.error();
    prompts.emplace_back(std::move(*ids));
    return Status::ok();
  }
  const uint32_t max_prompts = context.options.limits.max_prompts;
  if (list.children.size() > max_prompts) {
    return base::invalid_argument("prompt",
                                  fmt::format("There are more than {} prompts.", max_prompts));
  }
  for (size_t i = 0; i < list.children.size(); ++i) {
    const Json& item = list.children[i];
    const std::string path = fmt::format("prompt[{}]", i);
    if (item.is(Kind::kString)) {
      prompts.emplace_back(std::string(item.text));
    } else if (item.is(Kind::kArray)) {
      auto ids = parse_token_list(item, path, context.model.vocab_size);
      if (!ids) return ids.error();
      prompts.emplace_back(std::move(*ids));
    } else {
      return wrong_type(path, "a string or a list of token ids", item);
    }
  }
  return Status::ok();
}

Status parse_prompts(const Json& body, const FieldContext& context, std::vector<Prompt>& prompts) {
  const Json* prompt = body.find_set("prompt");
  if (prompt == nullptr) return base::invalid_argument("prompt", "prompt is missing.");
  if (prompt->is(Kind::kString)) {
    prompts.emplace_back(std::string(prompt->text));
    return Status::ok();
  }
  if (!prompt->is(Kind::kArray)) {
    return wrong_type("prompt", "a string, a list of strings or token ids", *prompt);
  }
  return parse_prompt_list(*prompt, context, prompts);
}

Status check_counts(const Json& body, const FieldContext& context, CompletionRequest& request) {
  GenerationFields& fields = request.fields;
  if (const Json* best_of = body.find_set("best_of");
      best_of != nullptr && best_of->integer != fields.num_choices) {
    return base::invalid_argument("best_of", "best_of must be equal to n.");
  }
  if (request.prompts.size() * fields.num_choices > context.options.limits.max_sequences) {
    return base::invalid_argument("n", fmt::format("Prompts times n must be at most {}.",
                                                   context.options.limits.max_sequences));
  }
  if (!fields.max_tokens) {
    fields.max_tokens = kDefaultMaxTokens;
    if (fields.sampling.min_tokens > kDefaultMaxTokens) {
      return base::invalid_argument("min_tokens",
                                    fmt::format("min_tokens ({}) is more than max_tokens ({}).",
                                                fields.sampling.min_tokens, kDefaultMaxTokens));
    }
  }
  if (*fields.max_tokens == 0 && !request.echo) {
    return base::invalid_argument("max_tokens", "max_tokens 0 needs \"echo\": true.");
  }
  return Status::ok();
}

}  // namespace

base::Expected<std::vector<int32_t>> parse_token_list(const Json& list, const std::string& path,
                                                      uint32_t vocab_size) {
  if (!list.is(Kind::kArray)) return wrong_type(path, "a list of token ids", list);
  if (list.children.empty()) return base::invalid_argument(path, path + " is empty.");
  std::vector<int32_t> ids;
  ids.reserve(list.children.size());
  for (size_t i = 0; i < list.children.size(); ++i) {
    const Json& id = list.children[i];
    if (!id.is_integer || id.integer < 0 || id.integer >= vocab_size) {
      const std::string param = fmt::format("{}[{}]", path, i);
      return base::invalid_argument(
          param, fmt::format("{} is not a token id below {}.", param, vocab_size));
    }
    ids.push_back(static_cast<int32_t>(id.integer));
  }
  return ids;
}

base::Expected<CompletionRequest> parse_completion_request(const Json& body,
                                                           const FieldContext& context) {
  CompletionRequest request;
  auto fields = parse_generation_fields(body, Endpoint::kCompletions, context);
  if (!fields) return fields.error();
  request.fields = std::move(*fields);
  if (Status status = read_bool(body, "echo", request.echo); !status) return status.error();
  if (Status status = read_bool(body, "add_special_tokens", request.add_special_tokens); !status) {
    return status.error();
  }
  if (Status status = parse_prompts(body, context, request.prompts); !status) {
    return status.error();
  }
  if (Status status = check_counts(body, context, request); !status) return status.error();
  GenerationFields& parsed = request.fields;
  if (parsed.top_logprobs) {
    parsed.sampling.num_top_logprobs = static_cast<int32_t>(*parsed.top_logprobs);
    if (request.echo) {
      parsed.sampling.num_prompt_logprobs =
          std::max(parsed.sampling.num_prompt_logprobs, parsed.sampling.num_top_logprobs);
    }
  }
  return request;
}

}  // namespace beryl::api
