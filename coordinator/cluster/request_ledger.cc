#include "coordinator/cluster/request_ledger.h"

#include <utility>

#include "parallel/base/assert.h"

namespace beryl::cluster {
namespace {

constexpr size_t kMaxRememberedFinishes = 64;

double seconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

metrics::Counter& finish_counter(metrics::EngineMetrics& metrics, scheduler::FinishReason reason) {
  switch (reason) {
    case scheduler::FinishReason::kStop:
      return metrics.finished_stop;
    case scheduler::FinishReason::kLength:
      return metrics.finished_length;
    case scheduler::FinishReason::kAborted:
    case scheduler::FinishReason::kDeadline:
      return metrics.finished_abort;
    case scheduler::FinishReason::kError:
      return metrics.finished_error;
  }
  return metrics.finished_error;
}

}  // namespace

void RequestLedger::add(scheduler::RequestId id, Entry entry) {
  pictures_.add(entry.pictures);
  entries_.emplace(id, std::move(entry));
}

RequestLedger::Entry RequestLedger::take(scheduler::RequestId id) {
  const auto found = entries_.find(id);
  BERYL_ASSERT(found != entries_.end(), "request {} has no entry", id);
  Entry entry = std::move(found->second);
  entries_.erase(found);
  pictures_.remove(entry.pictures);
  return entry;
}

std::vector<scheduler::RequestId> RequestLedger::ids() const {
  std::vector<scheduler::RequestId> ids;
  ids.reserve(entries_.size());
  for (const auto& [id, entry] : entries_) ids.push_back(id);
  return ids;
}

std::vector<RequestLedger::Delivery> RequestLedger::route(
    std::vector<scheduler::SchedulerEvent> events, Clock::time_point now) {
  std::vector<Delivery> deliveries;
  deliveries.reserve(events.size());
  for (scheduler::SchedulerEvent& event : events) {
    const auto found = entries_.find(event.request);
    BERYL_ASSERT(found != entries_.end(), "event of unknown request {}", event.request);
    Entry& entry = found->second;
    if (event.first_scheduled) {
      entry.scheduled = now;
      metrics_.queue_time_s.observe(seconds(now - entry.submitted));
    }
    if (!event.tokens.empty()) count_tokens(entry, event.tokens.size(), now);
    if (event.finished) count_finish(entry, event, now);
    const bool finished = event.finished;
    deliveries.push_back({entry.sink, std::move(event)});
    if (finished) {
      pictures_.remove(entry.pictures);
      entries_.erase(found);
    }
  }
  return deliveries;
}

void RequestLedger::count_tokens(Entry& entry, size_t num_tokens, Clock::time_point now) {
  if (entry.num_tokens == 0) {
    entry.first_token = now;
    metrics_.time_to_first_token_s.observe(seconds(now - entry.submitted));
    metrics_.prefill_time_s.observe(seconds(now - entry.scheduled));
    metrics_.prompt_tokens.add(entry.num_prompt_tokens);
  } else {
    metrics_.inter_token_latency_s.observe(seconds(now - entry.last_token));
  }
  entry.last_token = now;
  entry.num_tokens += static_cast<uint32_t>(num_tokens);
  metrics_.generation_tokens.add(num_tokens);
}

void RequestLedger::count_finish(const Entry& entry, const scheduler::SchedulerEvent& event,
                                 Clock::time_point now) {
  finish_counter(metrics_, event.reason).add();
  metrics_.e2e_latency_s.observe(seconds(now - entry.submitted));
  metrics_.request_prompt_tokens.observe(entry.num_prompt_tokens);
  metrics_.request_generation_tokens.observe(entry.num_tokens);
  if (entry.num_tokens > 0) {
    const double decode_s = seconds(entry.last_token - entry.first_token);
    metrics_.decode_time_s.observe(decode_s);
    metrics_.inference_time_s.observe(seconds(entry.last_token - entry.scheduled));
    if (entry.num_tokens > 1) {
      metrics_.time_per_output_token_s.observe(decode_s / (entry.num_tokens - 1));
    }
  }
  if (finished_.size() < kMaxRememberedFinishes) {
    finished_.push_back(now);
  } else {
    finished_[next_finished_] = now;
    next_finished_ = (next_finished_ + 1) % kMaxRememberedFinishes;
  }
}

double RequestLedger::finish_rate(Clock::time_point now) const {
  if (finished_.size() < 2) return 0;
  const Clock::time_point oldest = finished_[next_finished_ % finished_.size()];
  const double span = seconds(now - oldest);
  return span > 0 ? static_cast<double>(finished_.size()) / span : 0;
}

}  // namespace beryl::cluster
