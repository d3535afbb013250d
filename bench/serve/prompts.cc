#include "bench/serve/prompts.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "bench/serve/picture_url.h"

namespace beryl::load {
namespace {

using nlohmann::json;

// Random text in which ordinary token ids are looked for: thousands of different ones where the
// vocabulary is large.
constexpr int kIdSearchWords = 4000;
constexpr size_t kMinIds = 16;
// Of random words in vocabularies of natural language, where nobody can count.
constexpr int kTokensPerWord = 3;

}  // namespace

PromptMaker::PromptMaker(const Endpoint& endpoint, std::string model, PromptOptions options)
    : endpoint_(endpoint),
      model_(std::move(model)),
      options_(std::move(options)),
      random_(options_.seed) {
  if (options_.dataset == Dataset::kFixed) return;
  if (options_.type == EndpointType::kCompletions) {
    find_ids();
    can_count_ = ids_.size() >= kMinIds;
  } else {
    can_count_ = count_chat("a") > 0;
  }
}

void PromptMaker::find_ids() {
  const json body = {{"model", model_},
                     {"prompt", random_words(random_, kIdSearchWords)},
                     {"add_special_tokens", false}};
  const json answer = fetch_json(endpoint_, "/tokenize", body.dump());
  if (!answer.is_object() || !answer.contains("tokens")) return;
  for (const json& id : answer["tokens"]) {
    if (id.is_number_integer()) ids_.push_back(id.get<int32_t>());
  }
  std::sort(ids_.begin(), ids_.end());
  ids_.erase(std::unique(ids_.begin(), ids_.end()), ids_.end());
}

int64_t PromptMaker::count_chat(const std::string& text) const {
  const json body = {{"model", model_}, {"messages", {{{"role", "user"}, {"content", text}}}}};
  const json answer = fetch_json(endpoint_, "/tokenize", body.dump());
  return answer.is_object() ? answer.value("count", int64_t{-1}) : -1;
}

base::Expected<std::string> PromptMaker::text_of(int num_tokens) {
  if (options_.dataset == Dataset::kFixed) return options_.text;
  if (!can_count_) return random_words(random_, std::max(1, num_tokens / kTokensPerWord));
  return fit_text(random_, num_tokens,
                  [this](const std::string& text) { return count_chat(text); });
}

std::string PromptMaker::chat_field(const std::string& text) {
  json content = text;
  if (options_.dataset == Dataset::kImage) {
    content = json::array();
    for (int i = 0; i < options_.images_per_prompt; ++i) {
      const std::string url = picture_url(options_.image_width, options_.image_height, random_());
      content.push_back({{"type", "image_url"}, {"image_url", {{"url", url}}}});
    }
    content.push_back({{"type", "text"}, {"text", text}});
  }
  const json messages = {{{"role", "user"}, {"content", std::move(content)}}};
  return "\"messages\":" + messages.dump();
}

base::Expected<Prompt> PromptMaker::make(int num_tokens) {
  if (num_tokens == 0) num_tokens = options_.num_tokens;
  if (options_.type == EndpointType::kCompletions && can_count_) {
    std::vector<int32_t> prompt(static_cast<size_t>(num_tokens));
    for (int32_t& id : prompt) id = ids_[random_() % ids_.size()];
    return Prompt{"\"prompt\":" + json(prompt).dump(), num_tokens};
  }
  auto text = text_of(num_tokens);
  if (!text) return std::move(text).error();
  if (options_.type == EndpointType::kCompletions) {
    return Prompt{"\"prompt\":" + json(*text).dump(), -1};
  }
  const bool is_exact = can_count_ && options_.dataset == Dataset::kRandom;
  return Prompt{chat_field(*text), is_exact ? num_tokens : -1};
}

}  // namespace beryl::load
