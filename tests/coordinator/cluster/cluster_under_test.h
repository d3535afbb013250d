// A Cluster with short deadlines, its event pipe and helpers to start mock groups and collect
// completions.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "coordinator/cluster/cluster.h"
#include "parallel/wire/mock_worker.h"

namespace beryl::cluster {

using std::chrono::milliseconds;

inline constexpr milliseconds kPatience{20'000};  // for a machine with other work to do

// Collects the events of one request.
class Completion {
 public:
  EventSink sink() {
    return [state = state_](const scheduler::SchedulerEvent& event) {
      const std::lock_guard lock(state->mutex);
      for (const auto& token : event.tokens) state->tokens.push_back(token.token_id);
      if (event.finished) {
        ++state->num_finished;
        state->reason = event.reason;
        state->error = event.error;
      }
      state->changed.notify_all();
    };
  }
  bool wait() const {
    std::unique_lock lock(state_->mutex);
    return state_->changed.wait_for(lock, kPatience, [this] { return state_->num_finished > 0; });
  }
  bool wait_for_tokens(size_t num_tokens) const {
    std::unique_lock lock(state_->mutex);
    return state_->changed.wait_for(lock, kPatience,
                                    [&] { return state_->tokens.size() >= num_tokens; });
  }
  std::vector<int32_t> tokens() const {
    const std::lock_guard lock(state_->mutex);
    return state_->tokens;
  }
  int num_finished() const {
    const std::lock_guard lock(state_->mutex);
    return state_->num_finished;
  }
  scheduler::FinishReason reason() const { return state_->reason; }
  const std::string& error() const { return state_->error; }

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<int32_t> tokens;
    int num_finished = 0;
    scheduler::FinishReason reason = scheduler::FinishReason::kError;
    std::string error;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

inline ClusterOptions quick_options() {
  ClusterOptions options;
  options.heartbeat_interval = milliseconds(50);
  options.heartbeat_deadline = milliseconds(1'000);
  options.step_deadline = milliseconds(2'000);
  return options;
}

class ClusterUnderTest {
 public:
  using Group = std::vector<std::unique_ptr<wire::MockWorker>>;

  explicit ClusterUnderTest(const ClusterOptions& options = quick_options())
      : pipe_(make_pipe()),
        secret_(*wire::Secret::from_text("the secret of a cluster under test")),
        log_("coordinator", base::LogLevel::kError),
        events_(pipe_.write),
        metrics_(registry_, "model"),
        cluster_(
            std::make_unique<Cluster>(options, ClusterParts{secret_, log_, events_, metrics_})) {}
  ~ClusterUnderTest() {
    cluster_.reset();
    ::close(pipe_.write);
    ::close(pipe_.read);
  }

  Cluster& operator*() { return *cluster_; }
  Cluster* operator->() { return cluster_.get(); }
  const wire::Secret& secret() const { return secret_; }
  metrics::ServerMetrics& metrics() { return metrics_; }

  wire::MockWorkerOptions worker_options(uint32_t rank, uint32_t num_ranks,
                                         const std::string& launch_id) const {
    wire::MockWorkerOptions options;
    options.coordinator = {"127.0.0.1", cluster_->worker_port()};
    options.registration = wire::mock_registration(rank, num_ranks, launch_id);
    return options;
  }

  std::unique_ptr<wire::MockWorker> start(const wire::MockWorkerOptions& options) const {
    return std::make_unique<wire::MockWorker>(options, secret_);
  }

  Group start_group(uint32_t num_ranks, const std::string& launch_id, uint32_t group = 0,
                    milliseconds step_time = milliseconds(0)) const {
    Group ranks;
    for (uint32_t rank = 0; rank < num_ranks; ++rank) {
      wire::MockWorkerOptions options = worker_options(rank, num_ranks, launch_id);
      options.registration.set_group(group);
      options.step_time = step_time;
      ranks.push_back(start(options));
    }
    return ranks;
  }

  bool wait_until(const std::function<bool()>& condition) const {
    const auto until = std::chrono::steady_clock::now() + kPatience;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > until) return false;
      std::this_thread::sleep_for(milliseconds(2));
    }
    return true;
  }
  bool wait_until_state(EngineState state) const {
    return wait_until([&] { return cluster_->status().state == state; });
  }

  // What the launcher would have read so far.
  std::string events() {
    char buffer[4096];
    ssize_t n = 0;
    while ((n = ::read(pipe_.read, buffer, sizeof buffer)) > 0) {
      event_text_.append(buffer, static_cast<size_t>(n));
    }
    return event_text_;
  }

 private:
  struct Pipe {
    int read = -1;
    int write = -1;
  };
  static Pipe make_pipe() {
    int fds[2] = {-1, -1};
    if (::pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0) return {};
    return {fds[0], fds[1]};
  }

  Pipe pipe_;
  wire::Secret secret_;
  base::Logger log_;
  EventLog events_;
  metrics::Registry registry_;
  metrics::ServerMetrics metrics_;
  std::unique_ptr<Cluster> cluster_;
  std::string event_text_;
};

inline GenerationRequest request_of(int32_t number, uint32_t max_tokens) {
  GenerationRequest request;
  request.prompt_token_ids = {2, 100 + number % 500, 7, 9 + number % 7};
  request.sampling.seed = static_cast<uint64_t>(number);
  request.max_tokens = max_tokens;
  return request;
}

// What the mock group has to answer.
inline std::vector<int32_t> expected_tokens(const GenerationRequest& request) {
  wire::MockWorkerOptions options;
  options.registration = wire::mock_registration(0, 1, "x");
  return wire::mock_completion(request.prompt_token_ids, request.sampling.seed, request.max_tokens,
                               options);
}

}  // namespace beryl::cluster
