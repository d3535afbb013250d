// One table maps the names to the fields.
#include "coordinator/text/control_tokens.h"

#include <fmt/format.h>

#include <string>
#include <string_view>

namespace beryl::text {
namespace {

struct Name {
  std::string_view text;
  int32_t ControlTokens::*id;
};

constexpr Name kNames[] = {
    {"<pad>", &ControlTokens::pad},
    {"<eos>", &ControlTokens::eos},
    {"<bos>", &ControlTokens::bos},
    {"<unk>", &ControlTokens::unk},
    {"<mask>", &ControlTokens::mask},
    {"<|tool>", &ControlTokens::tool_open},
    {"<tool|>", &ControlTokens::tool_close},
    {"<|tool_call>", &ControlTokens::tool_call_open},
    {"<tool_call|>", &ControlTokens::tool_call_close},
    {"<|tool_response>", &ControlTokens::tool_response_open},
    {"<tool_response|>", &ControlTokens::tool_response_close},
    {"<|\"|>", &ControlTokens::quote},
    {"<|think|>", &ControlTokens::think},
    {"<|channel>", &ControlTokens::channel_open},
    {"<channel|>", &ControlTokens::channel_close},
    {"<|turn>", &ControlTokens::turn_open},
    {"<turn|>", &ControlTokens::turn_close},
    {"<|image>", &ControlTokens::image_open},
    {"<image|>", &ControlTokens::image_close},
    {"<|image|>", &ControlTokens::image},
    {"<|audio>", &ControlTokens::audio_open},
    {"<audio|>", &ControlTokens::audio_close},
    {"<|audio|>", &ControlTokens::audio},
    {"<|video|>", &ControlTokens::video},
};

}  // namespace

base::Expected<ControlTokens> ControlTokens::find(const Tokenizer& tokenizer) {
  ControlTokens tokens;
  std::string missing;
  for (const Name& name : kNames) {
    const std::optional<int32_t> id = tokenizer.special_id(name.text);
    if (id) {
      tokens.*name.id = *id;
    } else {
      missing += fmt::format("{}{}", missing.empty() ? "" : " ", name.text);
    }
  }
  if (!missing.empty()) {
    return base::invalid_argument(
        "tokenizer.json",
        fmt::format("the tokenizer lacks control tokens of Gemma 4: {}", missing));
  }
  return tokens;
}

}  // namespace beryl::text
