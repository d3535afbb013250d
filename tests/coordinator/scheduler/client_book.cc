#include "tests/coordinator/scheduler/client_book.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "tests/coordinator/scheduler/scenario.h"

namespace beryl::scheduler::sim {

void ClientBook::open(const NewRequest& request) {
  Client client;
  client.prompt = request.prompt_token_ids;
  client.wants_prompt_logprobs = request.sampling.num_prompt_logprobs >= 0;
  client.arrival = ++num_arrivals_;
  client.priority = request.priority;
  client.deadline_us = request.deadline_us;
  int32_t previous = request.prompt_token_ids.back();
  const std::vector<int32_t>& stops = request.stop_token_ids;
  for (uint32_t idx = 0; idx < request.max_tokens; ++idx) {
    const auto position = static_cast<uint32_t>(client.prompt.size() + idx);
    previous = model_token(request.sampling, position, previous, idx, stops);
    client.expected.push_back(previous);
    if (std::find(stops.begin(), stops.end(), previous) != stops.end()) {
      client.expected_reason = FinishReason::kStop;
      break;
    }
  }
  clients_.emplace(request.id, std::move(client));
  ++num_open_;
}

void ClientBook::note_cancel(RequestId id) {
  const auto found = clients_.find(id);
  if (found != clients_.end()) found->second.was_cancelled = true;
}

bool ClientBook::is_open(RequestId id) const {
  const auto found = clients_.find(id);
  return found != clients_.end() && !found->second.has_ended;
}

uint64_t ClientBook::num_ended(FinishReason reason) const {
  const auto found = ended_.find(reason);
  return found == ended_.end() ? 0 : found->second;
}

std::string ClientBook::take(const SchedulerEvent& event, int64_t now_us) {
  const auto found = clients_.find(event.request);
  if (found == clients_.end()) return fmt::format("event of unknown request {}", event.request);
  Client& client = found->second;
  std::string error;
  if (client.has_ended) error = "an event after the end";
  if (error.empty() && event.first_scheduled) error = take_schedule(client);
  if (error.empty()) error = take_tokens(client, event);
  if (error.empty() && event.finished) error = take_end(client, event, now_us);
  return error.empty() ? error : fmt::format("client of request {}: {}", event.request, error);
}

std::string ClientBook::take_schedule(Client& client) {
  if (client.was_scheduled) return "scheduled for the first time twice";
  client.was_scheduled = true;
  uint64_t& last = last_scheduled_[client.priority];
  if (client.arrival < last) {
    return fmt::format("starved: arrival {} was overtaken by {}", client.arrival, last);
  }
  last = client.arrival;
  return {};
}

std::string ClientBook::take_tokens(Client& client, const SchedulerEvent& event) {
  for (const GeneratedToken& token : event.prompt_logprobs) {
    const size_t idx = client.next_prompt_logprob++;
    if (!client.wants_prompt_logprobs || idx >= client.prompt.size() ||
        token.token_id != client.prompt[idx] || token.logprob != -static_cast<float>(idx)) {
      return fmt::format("wrong prompt logprob at {}", idx);
    }
  }
  if (!event.tokens.empty() && !client.was_scheduled) return "a token before it was scheduled";
  for (const GeneratedToken& token : event.tokens) {
    ++num_tokens_;
    if (client.num_received >= client.expected.size() ||
        token.token_id != client.expected[client.num_received]) {
      return fmt::format("wrong text at token {}", client.num_received);
    }
    ++client.num_received;
  }
  return {};
}

std::string ClientBook::take_end(Client& client, const SchedulerEvent& event, int64_t now_us) {
  client.has_ended = true;
  --num_open_;
  ++ended_[event.reason];
  if (event.reason == FinishReason::kAborted) {
    return client.was_cancelled ? "" : "aborted, but nobody cancelled";
  }
  if (event.reason == FinishReason::kDeadline) {
    return client.deadline_us != 0 && now_us >= client.deadline_us ? "" : "expired early";
  }
  if (event.reason != client.expected_reason) {
    return fmt::format("ended with reason {} ({})", static_cast<int>(event.reason), event.error);
  }
  if (client.num_received != client.expected.size()) {
    return fmt::format("ended with {} of {} tokens", client.num_received, client.expected.size());
  }
  if (event.reason == FinishReason::kStop && event.stop_token_id != client.expected.back()) {
    return fmt::format("stop token {}", event.stop_token_id);
  }
  if (client.wants_prompt_logprobs && client.next_prompt_logprob != client.prompt.size()) {
    return fmt::format("{} of {} prompt logprobs", client.next_prompt_logprob,
                       client.prompt.size());
  }
  return {};
}

std::string ClientBook::check_all_ended() const {
  for (const auto& [id, client] : clients_) {
    if (!client.has_ended) return fmt::format("request {} never ended", id);
  }
  return {};
}

}  // namespace beryl::scheduler::sim
