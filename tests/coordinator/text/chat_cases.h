// Reads the case files written by oracle/chat_oracle.py and compares ChatFormat with them.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "coordinator/text/chat_format.h"
#include "coordinator/text/detokenizer.h"

namespace beryl::text::testing {

using Json = nlohmann::ordered_json;

inline ChatRole role_of(const std::string& name) {
  if (name == "system") return ChatRole::kSystem;
  if (name == "developer") return ChatRole::kDeveloper;
  if (name == "assistant") return ChatRole::kAssistant;
  return name == "tool" ? ChatRole::kTool : ChatRole::kUser;
}

inline PartKind kind_of(const std::string& name) {
  if (name == "image") return PartKind::kImage;
  if (name == "audio") return PartKind::kAudio;
  return name == "video" ? PartKind::kVideo : PartKind::kText;
}

inline ChatMessage message_of(const Json& json) {
  ChatMessage message;
  message.role = role_of(json["role"]);
  const Json content = json.value("content", Json());
  if (content.is_string()) message.text = content.get<std::string>();
  if (content.is_array()) {
    message.text = "";
    for (const Json& part : content) {
      message.parts.push_back({kind_of(part["type"]), part.value("text", "")});
    }
  }
  message.reasoning = json.value("reasoning", "");
  message.tool_call_id = json.value("tool_call_id", "");
  message.name = json.value("name", "");
  for (const Json& call : json.value("tool_calls", Json::array())) {
    message.tool_calls.push_back({call["id"], call["name"], call["arguments"]});
  }
  return message;
}

inline base::Expected<RenderedChat> render_case(const ChatFormat& format, const Json& json) {
  std::vector<ChatMessage> messages;
  for (const Json& message : json["messages"]) messages.push_back(message_of(message));
  std::vector<ToolDeclaration> tools;
  for (const Json& tool : json["tools"]) {
    tools.push_back({tool["name"], tool["description"], tool.value("parameters", "")});
  }
  const Json& flags = json["options"];
  ChatOptions options;
  options.enable_thinking = flags["enable_thinking"];
  options.preserve_thinking = flags["preserve_thinking"];
  options.add_generation_prompt = flags["add_generation_prompt"];
  options.continue_final_message = flags["continue_final_message"];
  return format.render(messages, tools, options);
}

inline void check_chat_case(const Tokenizer& tokenizer, const ChatFormat& format,
                            const Json& json) {
  const auto rendered = render_case(format, json);
  ASSERT_TRUE(rendered) << rendered.error().message;
  const std::vector<int32_t> expected = json["ids"];
  ASSERT_EQ(rendered->ids, expected)
      << "ours:   " << decode(tokenizer, rendered->ids, false)
      << "\ntheirs: " << decode(tokenizer, expected, false) << "\ncase:   " << json.dump();
  std::vector<size_t> positions;
  for (const MediaPlaceholder& media : rendered->media) positions.push_back(media.position);
  EXPECT_EQ(positions, json["media"].get<std::vector<size_t>>());
  EXPECT_EQ(rendered->starts_in_reasoning, json["starts_in_reasoning"].get<bool>());
}

// Number of cases in the file at `path`; each is checked.
inline size_t check_chat_file(const Tokenizer& tokenizer, const std::string& path) {
  auto july = ChatFormat::create(tokenizer, TemplateRevision::kJuly2026);
  auto earlier = ChatFormat::create(tokenizer, TemplateRevision::kEarlier);
  EXPECT_TRUE(july && earlier);
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  size_t num_cases = 0;
  for (std::string line; std::getline(file, line) && !::testing::Test::HasFailure(); ++num_cases) {
    const Json json = Json::parse(line);
    check_chat_case(tokenizer, json["revision"] == "earlier" ? *earlier : *july, json);
  }
  return num_cases;
}

}  // namespace beryl::text::testing
