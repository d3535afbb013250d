// StreamAccount: what one streamed answer of an OpenAI-compatible endpoint said and when. Tokens
// are taken from `usage`: an event may carry several, or none that shows.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace beryl::load {

class StreamAccount {
 public:
  using Clock = std::chrono::steady_clock;

  // Bytes of the body in any pieces, with the time of their arrival.
  void feed(std::string_view bytes, Clock::time_point now);

  // When text came (of a choice: answer, reasoning or tool call).
  const std::vector<Clock::time_point>& event_times() const { return event_times_; }
  const std::string& text() const { return text_; }
  const std::string& finish_reason() const { return finish_reason_; }
  bool is_finished() const { return is_finished_; }                 // [DONE] came
  int64_t prompt_tokens() const { return prompt_tokens_; }          // -1: no usage came
  int64_t completion_tokens() const { return completion_tokens_; }  // -1: no usage came
  const std::string& error() const { return error_; }               // empty: well formed so far
  // The last event of a choice, with or without text.
  Clock::time_point last_event() const { return last_event_; }

 private:
  void take_line(std::string_view line, Clock::time_point now);
  void take_event(std::string_view data, Clock::time_point now);

  std::string line_;  // the part of a line that has come
  std::vector<Clock::time_point> event_times_;
  Clock::time_point last_event_;
  std::string text_;
  std::string finish_reason_;
  std::string error_;
  bool is_finished_ = false;
  int64_t prompt_tokens_ = -1;
  int64_t completion_tokens_ = -1;
};

}  // namespace beryl::load
