#include "bench/serve/stream_account.h"

#include <nlohmann/json.hpp>

namespace beryl::load {
namespace {

using nlohmann::json;

constexpr std::string_view kData = "data:";
constexpr size_t kMaxShownBytes = 200;  // of what a server sent, in errors

std::string string_of(const json& object, const char* name) {
  const auto it = object.find(name);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

// Text of a choice in either form. Reasoning may come under two names, with equal text.
std::string text_of(const json& choice) {
  const auto delta = choice.find("delta");
  if (delta == choice.end() || !delta->is_object()) return string_of(choice, "text");
  std::string text = string_of(*delta, "content");
  const std::string reasoning = string_of(*delta, "reasoning");
  text += reasoning.empty() ? string_of(*delta, "reasoning_content") : reasoning;
  const auto calls = delta->find("tool_calls");
  if (calls != delta->end() && calls->is_array() && !calls->empty()) text += calls->dump();
  return text;
}

}  // namespace

void StreamAccount::feed(std::string_view bytes, Clock::time_point now) {
  while (!bytes.empty()) {
    const size_t end = bytes.find('\n');
    line_.append(bytes.substr(0, end));
    if (end == std::string_view::npos) return;
    bytes.remove_prefix(end + 1);
    if (!line_.empty() && line_.back() == '\r') line_.pop_back();
    take_line(line_, now);
    line_.clear();
  }
}

void StreamAccount::take_line(std::string_view line, Clock::time_point now) {
  if (!line.starts_with(kData)) return;
  line.remove_prefix(kData.size());
  if (line.starts_with(' ')) line.remove_prefix(1);
  if (line == "[DONE]") {
    is_finished_ = true;
  } else {
    take_event(line, now);
  }
}

void StreamAccount::take_event(std::string_view data, Clock::time_point now) {
  const json event = json::parse(data, nullptr, false);
  if (!event.is_object()) {
    error_ = "an event is no JSON object: " + std::string(data.substr(0, kMaxShownBytes));
    return;
  }
  if (const auto it = event.find("error"); it != event.end() && !it->is_null()) {
    error_ = "the server reports " + it->dump().substr(0, kMaxShownBytes);
    return;
  }
  if (const auto usage = event.find("usage"); usage != event.end() && usage->is_object()) {
    prompt_tokens_ = usage->value("prompt_tokens", int64_t{-1});
    completion_tokens_ = usage->value("completion_tokens", int64_t{-1});
  }
  const auto choices = event.find("choices");
  if (choices == event.end() || !choices->is_array()) return;
  for (const json& choice : *choices) {
    last_event_ = now;
    const std::string text = text_of(choice);
    if (!text.empty()) event_times_.push_back(now);
    text_ += text;
    if (const std::string reason = string_of(choice, "finish_reason"); !reason.empty()) {
      finish_reason_ = reason;
    }
  }
}

}  // namespace beryl::load
