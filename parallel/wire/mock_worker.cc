#include "parallel/wire/mock_worker.h"

#include <unistd.h>

#include "parallel/wire/framing.h"
#include "parallel/wire/greet.h"
#include "parallel/wire/limits.h"

namespace beryl::wire {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kSlice{20};
constexpr milliseconds kSendDeadline{10'000};
constexpr uint64_t kChainStart = 0x9E3779B97F4A7C15;

uint64_t chained(uint64_t chain, uint64_t token) {
  uint64_t value = chain ^ (token + 0x9E3779B97F4A7C15 + (chain << 6));
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
  return value ^ (value >> 29);
}

uint32_t next_token(uint64_t chain, uint64_t seed, const MockWorkerOptions& options) {
  const uint32_t span = options.registration.model().vocab_size() - options.first_token;
  return options.first_token + static_cast<uint32_t>(chained(chain, seed) % span);
}

}  // namespace

Registration mock_registration(uint32_t rank, uint32_t num_ranks, const std::string& launch_id) {
  Registration registration;
  registration.set_launch_id(launch_id);
  registration.set_rank(rank);
  registration.set_num_ranks(num_ranks);
  registration.set_host("localhost");
  registration.set_pid(::getpid());
  registration.set_device("mock");
  registration.set_version("0");
  ModelFacts& model = *registration.mutable_model();
  model.set_vocab_size(1024);
  model.set_max_model_len(4096);
  model.set_sliding_window(16);
  model.set_num_hidden_layers(1);
  model.set_fingerprint(1);
  CacheFacts& cache = *registration.mutable_cache();
  cache.set_block_size(16);
  cache.set_num_pages(1280);
  cache.set_global_blocks_per_page(16);
  cache.set_max_num_seqs(256);
  cache.set_max_num_batched_tokens(2048);
  return registration;
}

std::vector<int32_t> mock_completion(const std::vector<int32_t>& prompt, uint64_t seed,
                                     size_t num_tokens, const MockWorkerOptions& options) {
  uint64_t chain = kChainStart;
  for (const int32_t token : prompt) chain = chained(chain, static_cast<uint64_t>(token));
  std::vector<int32_t> tokens;
  while (tokens.size() < num_tokens) {
    const uint32_t token = next_token(chain, seed, options);
    chain = chained(chain, token);
    tokens.push_back(static_cast<int32_t>(token));
  }
  return tokens;
}

MockWorker::MockWorker(const MockWorkerOptions& options, const Secret& secret)
    : options_(options), secret_(secret) {
  thread_ = std::thread([this] {
    const std::string reason = run();
    const std::lock_guard lock(mutex_);
    end_reason_ = reason.empty() ? "stopped" : reason;
    ended_changed_.notify_all();
  });
}

MockWorker::~MockWorker() {
  stop();
  thread_.join();
}

void MockWorker::stop() {
  stopping_.store(true);
}

std::string MockWorker::wait_for_end(milliseconds deadline) {
  std::unique_lock lock(mutex_);
  ended_changed_.wait_for(lock, deadline, [this] { return !end_reason_.empty(); });
  return end_reason_;
}

std::string MockWorker::run() {
  auto connection = Connection::dial(options_.coordinator, kHandshakeDeadline);
  if (!connection) return connection.error().message;
  if (auto status = greet(*connection, secret_, options_.registration); !status) {
    return status.error().message;
  }
  return serve(*connection);
}

std::string MockWorker::serve(Connection& connection) {
  Clock::time_point next_heartbeat = Clock::now();
  while (!stopping_.load()) {
    if (!frozen_ && Clock::now() >= next_heartbeat) {
      if (auto sent = send_heartbeat(connection); !sent) return sent.error().message;
      next_heartbeat = Clock::now() + heartbeat_interval_;
    }
    if (auto status = tend_pictures(); !status) return status.error().message;
    if (!connection.wait_readable(kSlice)) continue;
    const auto frame = connection.receive(kMaxPlanFrameBytes, kSendDeadline);
    if (!frame) return frame.error().message;
    if (std::string reason = on_frame(connection, *frame); !reason.empty()) return reason;
  }
  return {};
}

// Not empty: why the conversation is over.
std::string MockWorker::on_frame(Connection& connection, const Frame& frame) {
  if (frame.has_welcome()) {
    epoch_.store(frame.welcome().epoch());
    heartbeat_interval_ = milliseconds(frame.welcome().heartbeat_interval_ms());
    dial_bulk_at_ = Clock::now() + options_.bulk_delay;
  } else if (frame.has_plan() && !frozen_ && !stuck_) {
    const auto answered = answer(connection, frame.plan());
    return answered ? std::string() : answered.error().message;
  } else if (frame.has_reject()) {
    return frame.reject().reason();
  } else if (frame.has_goodbye()) {
    return "goodbye: " + frame.goodbye().reason();
  }
  return {};
}

base::Status MockWorker::tend_pictures() {
  const Registration& facts = options_.registration;
  const bool is_due = facts.cache().num_feature_tokens() > 0 && epoch_.load() > 0 &&
                      dial_bulk_at_ != Clock::time_point() && Clock::now() >= dial_bulk_at_;
  if (is_due) {
    dial_bulk_at_ = {};
    BulkRegistration bulk;
    bulk.set_launch_id(facts.launch_id());
    bulk.set_group(facts.group());
    bulk.set_rank(facts.rank());
    const GroupLimits limits = {epoch_.load(), facts.num_ranks(), facts.model(), facts.cache()};
    auto status = pictures_.open(options_.coordinator, secret_, bulk, limits);
    if (!status) return status;
  }
  const auto status = pictures_.poll();
  num_pictures_.store(pictures_.num_pictures());
  return status;
}

base::Status MockWorker::send_heartbeat(Connection& connection) {
  Frame frame;
  frame.mutable_heartbeat()->set_epoch(epoch_.load());
  frame.mutable_heartbeat()->set_last_step(num_steps_.load());
  return connection.send(frame, kMaxHandshakeFrameBytes, kSendDeadline);
}

base::Status MockWorker::answer(Connection& connection, const StepPlan& plan) {
  while (plan.feature_jobs_size() > 0 && !pictures_.is_open() && !stopping_.load()) {
    if (auto status = tend_pictures(); !status) return status;
    std::this_thread::sleep_for(kSlice);
  }
  if (auto status = pictures_.execute(plan, options_.registration.rank()); !status) return status;
  num_pictures_.store(pictures_.num_pictures());
  StepResult result = compute(plan);
  if (options_.step_time.count() > 0) std::this_thread::sleep_for(options_.step_time);
  if (plan.step() == options_.fault_step && options_.fault != MockFault::kNone) {
    if (!misbehave(connection, result)) {
      return base::Error{base::ErrorCode::kCancelled, "the planned fault", {}, {}};
    }
    if (result.step() == 0) return base::Status::ok();  // nothing is to be said
  }
  num_steps_.store(plan.step());
  Frame frame;
  *frame.mutable_result() = std::move(result);
  return connection.send(frame, kMaxResultFrameBytes, kSendDeadline);
}

bool MockWorker::misbehave(Connection& connection, StepResult& result) {
  const auto say = [&](std::string_view bytes) {
    (void)connection.send_bytes(bytes, kSendDeadline);
    result.Clear();
    return true;
  };
  switch (options_.fault) {
    case MockFault::kNone:
      return true;
    case MockFault::kClose:
      return false;
    case MockFault::kCloseBulk:
      pictures_.close();
      return true;
    case MockFault::kFreeze:
      frozen_ = true;
      result.Clear();
      return true;
    case MockFault::kStuckStep:
      stuck_ = true;
      result.Clear();
      return true;
    case MockFault::kWrongEpoch:
      result.set_epoch(result.epoch() - 1);
      return true;
    case MockFault::kWrongStep:
      result.set_step(result.step() + 7);
      return true;
    case MockFault::kWrongHandle:
      result.add_outputs()->set_handle(options_.registration.cache().max_num_seqs() - 1);
      return true;
    case MockFault::kWrongToken:
      result.add_outputs()->add_tokens()->set_token_id(options_.registration.model().vocab_size());
      return true;
    case MockFault::kTwoResults: {
      Frame frame;
      *frame.mutable_result() = result;
      return connection.send(frame, kMaxResultFrameBytes, kSendDeadline).is_ok();
    }
    case MockFault::kStepError:
      result.set_error("the mock was told to fail");
      return true;
    case MockFault::kHugeFrame:
      return say("\xFF\xFF\xFF\xFF");
    case MockFault::kGarbage:
      return say(std::string("\x00\x00\x00\x04\xFF\xFF\xFF\xFF", 8));
    case MockFault::kUnexpectedFrame: {
      Frame frame;
      frame.mutable_welcome()->set_epoch(1);
      return say(*encode_frame(frame, kMaxHandshakeFrameBytes));
    }
  }
  return true;
}

StepResult MockWorker::compute(const StepPlan& plan) {
  for (const uint32_t handle : plan.releases()) requests_.erase(handle);
  for (const Admission& admission : plan.admissions()) {
    Request& request = requests_[admission.handle()];
    request = {kChainStart, admission.sampling().seed()};
    for (const uint32_t token : admission.token_ids()) {
      request.chain = chained(request.chain, token);
    }
  }
  StepResult result;
  result.set_epoch(plan.epoch());
  result.set_step(plan.step());
  result.mutable_times()->set_total_us(static_cast<uint32_t>(options_.step_time.count()));
  for (const Row& row : plan.rows()) {
    if (!row.sample()) continue;
    Request& request = requests_[row.handle()];
    const uint32_t token = next_token(request.chain, request.seed, options_);
    request.chain = chained(request.chain, token);
    Output& output = *result.add_outputs();
    output.set_handle(row.handle());
    output.set_position(row.start() + row.count());
    output.add_tokens()->set_token_id(token);
  }
  return result;
}

}  // namespace beryl::wire
