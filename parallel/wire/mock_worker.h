// MockWorker: one rank without a model. It speaks the protocol and answers every plan at once with
// tokens that are a pure function of the tokens before them, so that a request which continues
// elsewhere must come out the same. For tests and benchmarks of the coordinator; it can be told to
// misbehave at a given step.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "parallel/wire/connection.h"
#include "parallel/wire/mock_pictures.h"
#include "parallel/wire/secret.h"
#include "parallel/wire/validate.h"

namespace beryl::wire {

enum class MockFault {
  kNone,
  kClose,           // ends the connection
  kCloseBulk,       // ends the second connection
  kFreeze,          // keeps it open, but says nothing more, no heartbeats either
  kStuckStep,       // heartbeats go on, the result never comes
  kWrongEpoch,      // a result of the epoch before
  kWrongStep,       // a result of a step that was not planned
  kWrongHandle,     // an output of a request that has no row
  kWrongToken,      // a token beyond the vocabulary
  kTwoResults,      // the same result twice
  kStepError,       // says that the step failed as a whole
  kHugeFrame,       // announces a frame of 4 GB
  kGarbage,         // bytes that are no message
  kUnexpectedFrame  // a message that only a coordinator sends
};

struct MockWorkerOptions {
  Endpoint coordinator;
  Registration registration;  // `proof` is filled in; with num_feature_tokens it takes pictures
  std::chrono::milliseconds bulk_delay{0};  // from the welcome to dialing for pictures
  std::chrono::microseconds step_time{0};   // what a step takes
  uint32_t first_token = 16;                // tokens come from [first_token, vocab_size)
  MockFault fault = MockFault::kNone;
  uint64_t fault_step = 1;
};

// A registration that a coordinator accepts.
Registration mock_registration(uint32_t rank, uint32_t num_ranks, const std::string& launch_id);

// What a group of mock workers answers to a prompt, `num_tokens` long.
std::vector<int32_t> mock_completion(const std::vector<int32_t>& prompt, uint64_t seed,
                                     size_t num_tokens, const MockWorkerOptions& options);

class MockWorker {
 public:
  // `secret` must outlive it. Dials from its own thread.
  MockWorker(const MockWorkerOptions& options, const Secret& secret);
  ~MockWorker();
  MockWorker(const MockWorker&) = delete;
  MockWorker& operator=(const MockWorker&) = delete;

  void stop();
  // Why it ended; empty if it has not within `deadline`.
  std::string wait_for_end(std::chrono::milliseconds deadline);
  uint64_t num_steps() const { return num_steps_.load(); }
  uint64_t epoch() const { return epoch_.load(); }
  uint64_t num_pictures() const { return num_pictures_.load(); }

 private:
  struct Request {
    uint64_t chain = 0;  // of all tokens so far
    uint64_t seed = 0;
  };

  std::string run();
  std::string serve(Connection& connection);
  std::string on_frame(Connection& connection, const Frame& frame);
  base::Status tend_pictures();
  base::Status answer(Connection& connection, const StepPlan& plan);
  base::Status send_heartbeat(Connection& connection);
  // False: the connection is to end here.
  bool misbehave(Connection& connection, StepResult& result);
  StepResult compute(const StepPlan& plan);

  const MockWorkerOptions options_;
  const Secret& secret_;
  std::unordered_map<uint32_t, Request> requests_;
  std::chrono::milliseconds heartbeat_interval_{1'000};
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> num_steps_{0};
  std::atomic<uint64_t> epoch_{0};
  std::atomic<uint64_t> num_pictures_{0};
  MockPictures pictures_;
  std::chrono::steady_clock::time_point dial_bulk_at_;
  bool frozen_ = false;  // says nothing more
  bool stuck_ = false;   // finishes no step any more
  std::mutex mutex_;
  std::condition_variable ended_changed_;
  std::string end_reason_;
  std::thread thread_;
};

}  // namespace beryl::wire
