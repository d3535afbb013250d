#include "coordinator/cluster/mock_engine.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace beryl::cluster {

using scheduler::FinishReason;
using scheduler::GeneratedToken;
using scheduler::SchedulerEvent;

namespace {

GeneratedToken make_token(int32_t id, int32_t num_top, uint32_t vocab_size) {
  GeneratedToken token{.token_id = id, .logprob = -0.5F, .top = {}};
  for (int32_t i = 0; i < num_top; ++i) {
    const auto other = static_cast<int32_t>((static_cast<uint32_t>(id + i)) % vocab_size);
    token.top.push_back({other, -0.5F - static_cast<float>(i)});
  }
  return token;
}

bool contains(const std::vector<int32_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

MockEngine::MockEngine(MockEngineOptions options) : options_(std::move(options)) {
  thread_ = std::thread([this] { run(); });
}

MockEngine::~MockEngine() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

base::Expected<scheduler::RequestId> MockEngine::submit(GenerationRequest request, EventSink sink) {
  if (state_ != EngineState::kReady && state_ != EngineState::kDegraded) {
    return base::Error{base::ErrorCode::kUnavailable, "No group is ready.", {}, "no_group"};
  }
  const std::lock_guard lock(mutex_);
  if (num_open_ >= options_.max_running + options_.max_queued) {
    return base::Error{base::ErrorCode::kQueueFull, "The queue is full.", {}, "server_overloaded"};
  }
  ++num_open_;
  const scheduler::RequestId id = ++num_submitted_;
  last_request_ = request;
  std::vector<int32_t> script = options_.script(request);
  arrivals_.push_back({id, std::move(request), std::move(sink), std::move(script), 0});
  changed_.notify_all();
  return id;
}

void MockEngine::cancel(scheduler::RequestId request) {
  const std::lock_guard lock(mutex_);
  cancellations_.insert(request);
  changed_.notify_all();
}

base::Expected<ModelFacts> MockEngine::model() const {
  if (state_ == EngineState::kStarting) {
    return base::Error{base::ErrorCode::kUnavailable, "The model is loading.", {}, "loading"};
  }
  return options_.model;
}

EngineStatus MockEngine::status() const {
  EngineStatus status;
  status.state = state_;
  status.retry_after_s = 2;
  GroupStatus group;
  group.epoch = 1;
  group.state = "ready";
  group.num_running = static_cast<uint32_t>(num_open_.load());
  group.ranks.push_back({.rank = 0, .host = "localhost", .pid = 1, .device = "mock"});
  status.groups.push_back(std::move(group));
  return status;
}

void MockEngine::set_paused(bool paused) {
  const std::lock_guard lock(mutex_);
  paused_ = paused;
  changed_.notify_all();
}

void MockEngine::fail_all(std::string error) {
  const std::lock_guard lock(mutex_);
  failure_ = std::move(error);
  changed_.notify_all();
}

void MockEngine::allow_tokens(int64_t count) {
  const std::lock_guard lock(mutex_);
  tokens_left_ = count;
  changed_.notify_all();
}

size_t MockEngine::num_open() const {
  return num_open_;
}

GenerationRequest MockEngine::last_request() const {
  const std::lock_guard lock(mutex_);
  return last_request_;
}

void MockEngine::run() {
  std::vector<Running> running;
  std::unique_lock lock(mutex_);
  while (true) {
    const auto may_step = [&] {
      const bool has_tokens = tokens_left_ != 0 && !paused_ && !running.empty();
      return stopping_ || !arrivals_.empty() || !cancellations_.empty() || !failure_.empty() ||
             has_tokens;
    };
    changed_.wait(lock, may_step);
    if (stopping_) return;
    std::move(arrivals_.begin(), arrivals_.end(), std::back_inserter(running));
    arrivals_.clear();
    const auto cancelled = std::exchange(cancellations_, {});
    const std::string failure = std::exchange(failure_, {});
    const bool paused = paused_;
    lock.unlock();
    step(running, cancelled, failure);
    if (!paused && tokens_left_ != 0) {
      std::erase_if(running, [this](Running& one) { return emit(one); });
    }
    lock.lock();
    if (options_.step_time.count() > 0) {
      changed_.wait_for(lock, options_.step_time, [this] { return stopping_; });
    }
  }
}

void MockEngine::step(std::vector<Running>& running,
                      const std::set<scheduler::RequestId>& cancelled, const std::string& error) {
  std::erase_if(running, [&](Running& one) {
    const bool is_cancelled = cancelled.contains(one.id);
    if (!is_cancelled && error.empty()) return false;
    if (is_cancelled) ++num_aborted_;
    SchedulerEvent event;
    event.request = one.id;
    event.finished = true;
    event.reason = is_cancelled ? FinishReason::kAborted : FinishReason::kError;
    event.error = error;
    --num_open_;
    one.sink(event);
    return true;
  });
}

int32_t MockEngine::next_token(const Running& running) const {
  const auto& stops = running.request.stop_token_ids;
  if (running.num_emitted < running.script.size()) return running.script[running.num_emitted];
  if (!stops.empty() || running.script.empty()) return stops.empty() ? 0 : stops.front();
  return running.script[running.num_emitted % running.script.size()];
}

bool MockEngine::emit(Running& running) {
  if (tokens_left_ == 0) return false;
  if (tokens_left_ > 0) --tokens_left_;
  const GenerationRequest& request = running.request;
  const int32_t token_id = next_token(running);
  SchedulerEvent event;
  event.request = running.id;
  event.first_scheduled = running.num_emitted == 0;
  if (running.num_emitted == 0 && request.sampling.num_prompt_logprobs >= 0) {
    for (size_t i = 1; i < request.prompt_token_ids.size(); ++i) {
      event.prompt_logprobs.push_back(make_token(request.prompt_token_ids[i],
                                                 request.sampling.num_prompt_logprobs,
                                                 options_.model.vocab_size));
    }
  }
  event.tokens.push_back(
      make_token(token_id, request.sampling.num_top_logprobs, options_.model.vocab_size));
  ++running.num_emitted;
  ++num_tokens_;
  if (contains(request.stop_token_ids, token_id) &&
      running.num_emitted > request.sampling.min_tokens) {
    event.finished = true;
    event.reason = FinishReason::kStop;
    event.stop_token_id = token_id;
  } else if (running.num_emitted >= request.max_tokens) {
    event.finished = true;
    event.reason = FinishReason::kLength;
  }
  if (event.finished) --num_open_;
  running.sink(event);
  return event.finished;
}

}  // namespace beryl::cluster
