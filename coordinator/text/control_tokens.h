// Ids of the control tokens of Gemma 4. They are looked up by name, because small test models place
// them elsewhere.
#pragma once

#include <cstdint>
#include <vector>

#include "coordinator/text/tokenizer.h"
#include "parallel/base/expected.h"

namespace beryl::text {

struct ControlTokens {
  int32_t pad = -1;                  // <pad>
  int32_t eos = -1;                  // <eos>
  int32_t bos = -1;                  // <bos>
  int32_t unk = -1;                  // <unk>
  int32_t mask = -1;                 // <mask>
  int32_t tool_open = -1;            // <|tool>
  int32_t tool_close = -1;           // <tool|>
  int32_t tool_call_open = -1;       // <|tool_call>
  int32_t tool_call_close = -1;      // <tool_call|>
  int32_t tool_response_open = -1;   // <|tool_response>
  int32_t tool_response_close = -1;  // <tool_response|>
  int32_t quote = -1;                // <|"|>
  int32_t think = -1;                // <|think|>
  int32_t channel_open = -1;         // <|channel>
  int32_t channel_close = -1;        // <channel|>
  int32_t turn_open = -1;            // <|turn>
  int32_t turn_close = -1;           // <turn|>
  int32_t image_open = -1;           // <|image>
  int32_t image_close = -1;          // <image|>
  int32_t image = -1;                // <|image|>
  int32_t audio_open = -1;           // <|audio>
  int32_t audio_close = -1;          // <audio|>
  int32_t audio = -1;                // <|audio|>
  int32_t video = -1;                // <|video|>

  // Fails with the names of all that the tokenizer lacks.
  static base::Expected<ControlTokens> find(const Tokenizer& tokenizer);

  // The generation ends at these where generation_config.json names none.
  std::vector<int32_t> default_stop_ids() const { return {eos, turn_close, tool_response_open}; }

  // Placeholders and brackets of media: never to be sampled.
  std::vector<int32_t> media_ids() const {
    return {image_open, image_close, image, audio_open, audio_close, audio, video};
  }
};

}  // namespace beryl::text
