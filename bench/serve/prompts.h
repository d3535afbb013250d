// PromptMaker: distinct prompts of a seed for an endpoint, of an exact number of tokens where the
// server can count them.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "bench/serve/endpoint.h"
#include "bench/serve/fit_text.h"
#include "parallel/base/expected.h"

namespace beryl::load {

enum class EndpointType { kChat, kCompletions };
enum class Dataset { kRandom, kFixed, kImage };

struct PromptOptions {
  EndpointType type = EndpointType::kChat;
  Dataset dataset = Dataset::kRandom;
  int num_tokens = 1024;                      // random: of the prompt; image: without the pictures
  std::string text = "Write a short story.";  // fixed
  uint64_t seed = 0;
  int image_width = 1280;  // pixels
  int image_height = 720;
  int images_per_prompt = 1;
};

struct Prompt {
  std::string field;        // of the request body: "prompt": … or "messages": …
  int64_t num_tokens = -1;  // that the server must count; -1: not known
};

class PromptMaker {
 public:
  // Asks the server for its tokens.
  PromptMaker(const Endpoint& endpoint, std::string model, PromptOptions options);

  // The next prompt. `num_tokens` goes before that of the options; 0: that of the options.
  base::Expected<Prompt> make(int num_tokens = 0);

  // Whether lengths are exact.
  bool can_count() const { return can_count_; }

 private:
  int64_t count_chat(const std::string& text) const;
  void find_ids();
  base::Expected<std::string> text_of(int num_tokens);
  std::string chat_field(const std::string& text);

  const Endpoint endpoint_;
  const std::string model_;
  const PromptOptions options_;
  std::mt19937_64 random_;
  bool can_count_ = false;
  std::vector<int32_t> ids_;  // of ordinary tokens, ascending; completions
};

}  // namespace beryl::load
