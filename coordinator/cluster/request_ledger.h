// RequestLedger: to whom the events of a group's requests go, and the clock of each request for
// the metrics. Guarded by its owner.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "coordinator/cluster/engine.h"
#include "coordinator/cluster/picture_book.h"
#include "coordinator/metrics/server_metrics.h"
#include "coordinator/scheduler/request.h"

namespace beryl::cluster {

class RequestLedger {
 public:
  using Clock = std::chrono::steady_clock;

  struct Entry {
    std::shared_ptr<const EventSink> sink;
    Clock::time_point submitted;
    Clock::time_point scheduled;
    Clock::time_point first_token;
    Clock::time_point last_token;
    uint32_t num_prompt_tokens = 0;
    uint32_t num_tokens = 0;
    std::vector<media::PlacedImage> pictures;
  };

  // An event and its receiver; called after the owner's lock is released.
  struct Delivery {
    std::shared_ptr<const EventSink> sink;
    scheduler::SchedulerEvent event;
  };

  explicit RequestLedger(metrics::EngineMetrics& metrics) : metrics_(metrics) {}

  void add(scheduler::RequestId id, Entry entry);
  bool contains(scheduler::RequestId id) const { return entries_.contains(id); }
  // Leaves without an end: it goes on with another group's ledger.
  Entry take(scheduler::RequestId id);
  std::vector<scheduler::RequestId> ids() const;
  size_t size() const { return entries_.size(); }
  // The pixels of a picture of any request here; null: none has it.
  SharedImage picture(const scheduler::PictureKey& key) const { return pictures_.find(key); }

  // Counts the events and pairs them with their sinks. Requests that finish leave the ledger.
  std::vector<Delivery> route(std::vector<scheduler::SchedulerEvent> events, Clock::time_point now);

  // Requests that finished per second lately; 0 while unknown.
  double finish_rate(Clock::time_point now) const;

 private:
  void count_tokens(Entry& entry, size_t num_tokens, Clock::time_point now);
  void count_finish(const Entry& entry, const scheduler::SchedulerEvent& event,
                    Clock::time_point now);

  metrics::EngineMetrics& metrics_;
  std::unordered_map<scheduler::RequestId, Entry> entries_;
  PictureBook pictures_;                     // of all entries
  std::vector<Clock::time_point> finished_;  // ring of the last ones
  size_t next_finished_ = 0;
};

}  // namespace beryl::cluster
