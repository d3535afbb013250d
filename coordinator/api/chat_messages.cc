// The messages of a chat request.
#include <fmt/format.h>

#include <utility>

#include "coordinator/api/chat_request.h"

namespace beryl::api {
namespace {

using base::Status;
using Kind = Json::Kind;
using text::ChatMessage;
using text::ChatRole;
using text::ChatToolCall;
using text::ContentPart;

constexpr std::pair<std::string_view, ChatRole> kRoles[] = {
    {"system", ChatRole::kSystem}, {"developer", ChatRole::kDeveloper},
    {"user", ChatRole::kUser},     {"assistant", ChatRole::kAssistant},
    {"tool", ChatRole::kTool},
};

// A string member of `object` at `path`; absent and null leave `out` alone.
Status read_member(const Json& object, std::string_view name, const std::string& path,
                   std::string& out) {
  const Json* value = object.find_set(name);
  if (value == nullptr) return Status::ok();
  if (!value->is(Kind::kString))
    return wrong_type(fmt::format("{}.{}", path, name), "a string", *value);
  out = value->text;
  return Status::ok();
}

Status parse_role(const Json& message, const std::string& path, ChatRole& role) {
  const std::string param = path + ".role";
  const Json* value = message.find("role");
  if (value == nullptr) return base::invalid_argument(param, param + " is missing.");
  if (!value->is(Kind::kString)) return wrong_type(param, "a string", *value);
  for (const auto& [name, known] : kRoles) {
    if (name != value->text) continue;
    role = known;
    return Status::ok();
  }
  return base::invalid_argument(param,
                                param + " must be system, developer, user, assistant or tool.");
}

// `media` gets what is no text; its place in the message is the next part.
Status parse_part(const Json& part, const std::string& path, ChatMessage& message,
                  std::vector<MediaPart>& media) {
  if (!part.is(Kind::kObject)) return wrong_type(path, "an object", part);
  const Json* type = part.find("type");
  if (type == nullptr || !type->is(Kind::kString)) {
    return base::invalid_argument(path + ".type", path + ".type must be a string.");
  }
  if (is_media_type(type->text)) {
    auto parsed = parse_media_part(part, path);
    if (!parsed) return std::move(parsed).error();
    parsed->part_idx = message.parts.size();
    message.parts.push_back({parsed->kind});
    media.push_back(std::move(*parsed));
    return Status::ok();
  }
  if (type->text != "text" && type->text != "input_text" && type->text != "refusal") {
    return base::invalid_argument(path + ".type", path + ".type is not known.");
  }
  const std::string_view member = type->text == "refusal" ? "refusal" : "text";
  const Json* text = part.find(member);
  if (text == nullptr || !text->is(Kind::kString)) {
    const std::string param = fmt::format("{}.{}", path, member);
    return base::invalid_argument(param, param + " must be a string.");
  }
  message.parts.push_back({text::PartKind::kText, std::string(text->text), {}});
  return Status::ok();
}

Status parse_content(const Json& object, const std::string& path, ChatMessage& message,
                     std::vector<MediaPart>& media) {
  const std::string param = path + ".content";
  const Json* content = object.find_set("content");
  if (content == nullptr) {
    const bool may_lack = message.role == ChatRole::kAssistant;
    if (may_lack) return Status::ok();
    return base::invalid_argument(param, param + " is missing.");
  }
  if (content->is(Kind::kString)) {
    message.text = std::string(content->text);
    return Status::ok();
  }
  if (!content->is(Kind::kArray)) return wrong_type(param, "a string or a list of parts", *content);
  for (size_t i = 0; i < content->children.size(); ++i) {
    Status status =
        parse_part(content->children[i], fmt::format("{}[{}]", param, i), message, media);
    if (!status) return status;
  }
  if (message.parts.empty()) message.text = std::string();
  return Status::ok();
}

Status parse_tool_call(const Json& call, const std::string& path, ChatMessage& message) {
  if (!call.is(Kind::kObject)) return wrong_type(path, "an object", call);
  ChatToolCall parsed;
  if (Status status = read_member(call, "id", path, parsed.id); !status) return status;
  const Json* function = call.find("function");
  const std::string param = path + ".function";
  if (function == nullptr || !function->is(Kind::kObject)) {
    return base::invalid_argument(param, param + " must be an object.");
  }
  if (Status status = read_member(*function, "name", param, parsed.name); !status) return status;
  if (parsed.name.empty()) {
    return base::invalid_argument(param + ".name", param + ".name is missing.");
  }
  if (const Json* arguments = function->find_set("arguments")) {
    if (arguments->is(Kind::kString)) {
      parsed.arguments = arguments->text;
    } else if (arguments->is(Kind::kObject)) {
      parsed.arguments = arguments->raw;
    } else {
      return wrong_type(param + ".arguments", "a string of JSON", *arguments);
    }
  }
  message.tool_calls.push_back(std::move(parsed));
  return Status::ok();
}

Status parse_tool_calls(const Json& object, const std::string& path, ChatMessage& message) {
  const Json* calls = object.find_set("tool_calls");
  if (calls == nullptr) return Status::ok();
  const std::string param = path + ".tool_calls";
  if (!calls->is(Kind::kArray)) return wrong_type(param, "an array", *calls);
  if (message.role != ChatRole::kAssistant && !calls->children.empty()) {
    return base::invalid_argument(param, "Only assistant messages have tool_calls.");
  }
  for (size_t i = 0; i < calls->children.size(); ++i) {
    Status status = parse_tool_call(calls->children[i], fmt::format("{}[{}]", param, i), message);
    if (!status) return status;
  }
  return Status::ok();
}

Status parse_message(const Json& object, const std::string& path, ChatMessage& message,
                     std::vector<MediaPart>& media) {
  if (!object.is(Kind::kObject)) return wrong_type(path, "an object", object);
  if (Status status = parse_role(object, path, message.role); !status) return status;
  if (Status status = parse_content(object, path, message, media); !status) return status;
  if (Status status = read_member(object, "name", path, message.name); !status) return status;
  if (Status status = read_member(object, "tool_call_id", path, message.tool_call_id); !status) {
    return status;
  }
  if (Status status = read_member(object, "reasoning_content", path, message.reasoning); !status) {
    return status;
  }
  if (Status status = read_member(object, "reasoning", path, message.reasoning); !status) {
    return status;
  }
  return parse_tool_calls(object, path, message);
}

}  // namespace

base::Expected<ParsedMessages> parse_messages(const Json& body,
                                              const media::MediaOptions& options) {
  const Json* value = body.find("messages");
  if (value == nullptr) return base::invalid_argument("messages", "messages is missing.");
  if (!value->is(Kind::kArray)) return wrong_type("messages", "an array", *value);
  if (value->children.empty()) return base::invalid_argument("messages", "messages is empty.");
  ParsedMessages parsed;
  parsed.messages.resize(value->children.size());
  std::vector<MediaPart>& media = parsed.media.parts;
  for (size_t i = 0; i < parsed.messages.size(); ++i) {
    const size_t num_before = media.size();
    Status status = parse_message(value->children[i], fmt::format("messages[{}]", i),
                                  parsed.messages[i], media);
    if (!status) return status.error();
    for (size_t j = num_before; j < media.size(); ++j) media[j].message_idx = i;
  }
  if (Status status = finish_media_request(body, options, parsed.media); !status) {
    return status.error();
  }
  return parsed;
}

}  // namespace beryl::api
