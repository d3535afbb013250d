#include "coordinator/api/chat_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace beryl::api {
namespace {

using base::Error;
using base::ErrorCode;
using base::Status;
using Kind = Json::Kind;

constexpr size_t kMaxToolNameBytes = 128;

bool is_tool_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxToolNameBytes &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '_' || c == '-' || c == '.';
         });
}

Status parse_tool(const Json& tool, const std::string& path, text::ToolDeclaration& out) {
  if (!tool.is(Kind::kObject)) return wrong_type(path, "an object", tool);
  const Json* type = tool.find("type");
  if (type == nullptr || !type->is(Kind::kString) || type->text != "function") {
    return base::invalid_argument(path + ".type", path + ".type must be \"function\".");
  }
  const Json* function = tool.find("function");
  const std::string param = path + ".function";
  if (function == nullptr || !function->is(Kind::kObject)) {
    return base::invalid_argument(param, param + " must be an object.");
  }
  const Json* name = function->find("name");
  if (name == nullptr || !name->is(Kind::kString) || !is_tool_name(name->text)) {
    return base::invalid_argument(
        param + ".name", fmt::format("{}.name must be 1 to {} letters, digits, '_', '-' or '.'.",
                                     param, kMaxToolNameBytes));
  }
  out.name = name->text;
  if (const Json* description = function->find_set("description")) {
    if (!description->is(Kind::kString)) {
      return wrong_type(param + ".description", "a string", *description);
    }
    out.description = description->text;
  }
  if (const Json* parameters = function->find_set("parameters")) {
    if (!parameters->is(Kind::kObject)) {
      return wrong_type(param + ".parameters", "an object", *parameters);
    }
    out.parameters = parameters->raw;
  }
  return Status::ok();
}

Status check_named_tool(const Json& choice, const std::vector<text::ToolDeclaration>& tools) {
  const Json* function = choice.find("function");
  const Json* name = function == nullptr ? nullptr : function->find("name");
  if (name == nullptr || !name->is(Kind::kString)) {
    return base::invalid_argument("tool_choice", "tool_choice.function.name must be a string.");
  }
  const bool listed =
      std::any_of(tools.begin(), tools.end(),
                  [name](const text::ToolDeclaration& tool) { return tool.name == name->text; });
  if (!listed) return base::invalid_argument("tool_choice", "tool_choice names an unknown tool.");
  return Error{
      ErrorCode::kNotImplemented, "A named tool_choice is not supported yet.", "tool_choice", {}};
}

Status parse_tool_choice(const Json& body, std::vector<text::ToolDeclaration>& tools) {
  const Json* choice = body.find_set("tool_choice");
  if (choice == nullptr) return Status::ok();
  if (choice->is(Kind::kObject)) {
    if (tools.empty()) return base::invalid_argument("tool_choice", "tool_choice needs tools.");
    return check_named_tool(*choice, tools);
  }
  if (!choice->is(Kind::kString)) {
    return wrong_type("tool_choice", "a string or an object", *choice);
  }
  if (choice->text == "none") {
    tools.clear();
    return Status::ok();
  }
  if (choice->text != "auto" && choice->text != "required") {
    return base::invalid_argument("tool_choice",
                                  "tool_choice must be none, auto, required or a named function.");
  }
  if (tools.empty()) return base::invalid_argument("tool_choice", "tool_choice needs tools.");
  if (choice->text == "auto") return Status::ok();
  return Error{
      ErrorCode::kNotImplemented, "tool_choice required is not supported yet.", "tool_choice", {}};
}

// Sets `enable` where the request says something.
Status parse_thinking(const Json& body, bool& enable) {
  if (const Json* effort = body.find_set("reasoning_effort")) {
    constexpr std::string_view kEfforts[] = {"none", "minimal", "low", "medium",
                                             "high", "xhigh",   "max"};
    if (!effort->is(Kind::kString)) return wrong_type("reasoning_effort", "a string", *effort);
    if (std::find(std::begin(kEfforts), std::end(kEfforts), effort->text) == std::end(kEfforts)) {
      return base::invalid_argument(
          "reasoning_effort",
          "reasoning_effort must be none, minimal, low, medium, high, xhigh or max.");
    }
    enable = effort->text != "none";
  }
  const Json* kwargs = body.find_set("chat_template_kwargs");
  if (kwargs == nullptr) return Status::ok();
  if (!kwargs->is(Kind::kObject)) return wrong_type("chat_template_kwargs", "an object", *kwargs);
  for (const Json& member : kwargs->children) {
    if (member.key != "enable_thinking") {
      return base::invalid_argument("chat_template_kwargs",
                                    "chat_template_kwargs may have enable_thinking only.");
    }
    if (!member.is(Kind::kBool)) {
      return wrong_type("chat_template_kwargs.enable_thinking", "a boolean", member);
    }
    enable = member.boolean;
  }
  return Status::ok();
}

Status parse_logprobs(const Json& body, ChatRequest& request) {
  if (Status status = read_bool(body, "logprobs", request.logprobs); !status) return status;
  if (request.fields.top_logprobs.value_or(0) > 0 && !request.logprobs) {
    return base::invalid_argument("top_logprobs", "top_logprobs needs \"logprobs\": true.");
  }
  if (request.logprobs) {
    request.fields.sampling.num_top_logprobs =
        static_cast<int32_t>(request.fields.top_logprobs.value_or(0));
  }
  return Status::ok();
}

}  // namespace

base::Expected<std::vector<text::ToolDeclaration>> parse_tools(const Json& body,
                                                               const RequestLimits& limits) {
  std::vector<text::ToolDeclaration> tools;
  const Json* value = body.find_set("tools");
  if (value == nullptr) return tools;
  if (!value->is(Kind::kArray)) return wrong_type("tools", "an array", *value);
  if (value->children.empty()) return base::invalid_argument("tools", "tools is empty.");
  if (value->children.size() > limits.max_tools) {
    return base::invalid_argument("tools",
                                  fmt::format("There are more than {} tools.", limits.max_tools));
  }
  tools.resize(value->children.size());
  for (size_t i = 0; i < tools.size(); ++i) {
    Status status = parse_tool(value->children[i], fmt::format("tools[{}]", i), tools[i]);
    if (!status) return status.error();
  }
  return tools;
}

Status parse_chat_options(const Json& body, bool enable_thinking, text::ChatOptions& options) {
  options.enable_thinking = enable_thinking;
  if (Status status = parse_thinking(body, options.enable_thinking); !status) return status;
  if (Status status = read_bool(body, "continue_final_message", options.continue_final_message);
      !status) {
    return status;
  }
  options.add_generation_prompt = !options.continue_final_message;
  if (Status status = read_bool(body, "add_generation_prompt", options.add_generation_prompt);
      !status) {
    return status;
  }
  if (options.add_generation_prompt && options.continue_final_message) {
    return base::invalid_argument("continue_final_message",
                                  "continue_final_message excludes add_generation_prompt.");
  }
  return Status::ok();
}

base::Expected<ChatRequest> parse_chat_request(const Json& body, const FieldContext& context) {
  ChatRequest request;
  auto fields = parse_generation_fields(body, Endpoint::kChat, context);
  if (!fields) return fields.error();
  request.fields = std::move(*fields);
  auto parsed = parse_messages(body, context.options.media);
  if (!parsed) return parsed.error();
  request.messages = std::move(parsed->messages);
  request.media = std::move(parsed->media);
  auto tools = parse_tools(body, context.options.limits);
  if (!tools) return tools.error();
  request.tools = std::move(*tools);
  if (Status status = parse_tool_choice(body, request.tools); !status) return status.error();
  if (Status status = parse_chat_options(body, context.options.enable_thinking, request.options);
      !status) {
    return status.error();
  }
  if (Status status = parse_logprobs(body, request); !status) return status.error();
  if (Status status = read_bool(body, "include_reasoning", request.include_reasoning); !status) {
    return status.error();
  }
  if (Status status = read_bool(body, "parallel_tool_calls", request.parallel_tool_calls);
      !status) {
    return status.error();
  }
  bool echo = false;
  if (Status status = read_bool(body, "echo", echo); !status) return status.error();
  if (echo) {
    return Error{ErrorCode::kNotImplemented, "echo is not supported for chats.", "echo", {}};
  }
  return request;
}

}  // namespace beryl::api
