#include "coordinator/api/generation_session.h"

#include <iterator>
#include <unordered_map>
#include <utility>

#include "coordinator/api/error_response.h"

namespace beryl::api {

using base::Error;
using base::ErrorCode;
using scheduler::FinishReason;
using scheduler::SchedulerEvent;

namespace {

// The engine ends requests at their deadline; this is how much later we stop waiting for it.
constexpr std::chrono::seconds kDeadlineMargin{30};

// Why a finished event is a failure of the whole request; nothing where it is none. What the engine
// says is for the log: it may name hosts.
std::optional<Error> failure_of(const SchedulerEvent& event) {
  if (!event.finished) return std::nullopt;
  switch (event.reason) {
    case FinishReason::kStop:
    case FinishReason::kLength:
      return std::nullopt;
    case FinishReason::kAborted:
      return Error{
          ErrorCode::kUnavailable, "The generation was aborted by the server.", {}, "aborted"};
    case FinishReason::kDeadline:
      return Error{
          ErrorCode::kDeadlineExceeded, "The generation took too long.", {}, "deadline_exceeded"};
    case FinishReason::kError:
      break;
  }
  return Error{ErrorCode::kInternal, "The generation failed.", {}, "generation_failed"};
}

// A merged event is formatted as a whole, so its size is bounded.
constexpr size_t kMaxMergedTokens = 256;

// Appends `from`, the next event of the same choice.
void append_event(SchedulerEvent&& from, SchedulerEvent& into) {
  std::move(from.tokens.begin(), from.tokens.end(), std::back_inserter(into.tokens));
  std::move(from.prompt_logprobs.begin(), from.prompt_logprobs.end(),
            std::back_inserter(into.prompt_logprobs));
  into.finished = from.finished;
  into.reason = from.reason;
  into.stop_token_id = from.stop_token_id;
  into.error = std::move(from.error);
}

// Joins events of each choice; the order within a choice stays.
void merge_events(std::deque<ChoiceEvent>& events) {
  std::deque<ChoiceEvent> merged;
  std::unordered_map<uint32_t, size_t> last_of;  // choice -> index in `merged`
  for (ChoiceEvent& next : events) {
    const auto last = last_of.find(next.choice_idx);
    if (last != last_of.end()) {
      SchedulerEvent& into = merged[last->second].event;
      if (into.tokens.size() + next.event.tokens.size() <= kMaxMergedTokens) {
        append_event(std::move(next.event), into);
        continue;
      }
    }
    last_of[next.choice_idx] = merged.size();
    merged.push_back(std::move(next));
  }
  events = std::move(merged);
}

}  // namespace

std::string sse_error(const Error& error) {
  return "data: " + error_json(error) + "\n\n";
}

GenerationSession::GenerationSession(ServerContext& context, http::Exchange& exchange,
                                     GenerationOutput& output)
    : context_(context),
      exchange_(exchange),
      output_(output),
      mailbox_(std::make_shared<EventMailbox>(exchange.executor(), [this] { pump(); })),
      done_(exchange.executor()) {}

GenerationSession::~GenerationSession() {
  mailbox_->close();
  if (stream_ != nullptr) {
    stream_->on_drained(nullptr);
    stream_->on_failed(nullptr);
  }
  for (Choice& choice : choices_) close_choice(choice, true, "ended");
}

base::Status GenerationSession::submit(std::vector<cluster::GenerationRequest> requests) {
  for (cluster::GenerationRequest& request : requests) {
    const auto choice_idx = static_cast<uint32_t>(choices_.size());
    const auto id = context_.engine.submit(
        std::move(request), [mailbox = mailbox_, choice_idx](const SchedulerEvent& event) {
          mailbox->push(choice_idx, event);
        });
    if (!id) {
      for (Choice& choice : choices_) close_choice(choice, true, "not_all_submitted");
      return id.error();
    }
    choices_.push_back({*id, true});
    ++num_open_;
  }
  return base::Status::ok();
}

void GenerationSession::attach(http::SseStream& stream) {
  stream_ = &stream;
  stream.on_drained([this] { pump(); });
  stream.on_failed([this] {
    end({ErrorCode::kCancelled, "The client does not read.", {}, {}}, "slow_client");
  });
}

boost::asio::awaitable<base::Status> GenerationSession::run() {
  exchange_.on_disconnect([this] {
    end({ErrorCode::kCancelled, "The client has gone.", {}, {}}, "disconnect");
  });
  const auto deadline = http::Clock::now() + context_.options.request_timeout + kDeadlineMargin;
  if (!co_await done_.wait_until(deadline)) {
    end({ErrorCode::kDeadlineExceeded, "The generation took too long.", {}, {}}, "deadline");
  }
  if (error_) co_return *error_;
  co_return base::Status::ok();
}

void GenerationSession::pump() {
  if (done_.is_set()) return;
  if (stream_ != nullptr && stream_->congested()) {
    merge_events_ = true;
    if (events_.size() + mailbox_->size() > context_.options.limits.max_held_events) cut_stream();
    return;
  }
  mailbox_->take(events_);
  if (std::exchange(merge_events_, false)) merge_events(events_);
  while (!events_.empty() && !done_.is_set() && !merge_events_) {
    handle(events_.front());
    events_.pop_front();
    make_room();
  }
  if (stream_ != nullptr) stream_->flush();
}

// Hands over to the socket what is written; if the client is behind, the rest has to wait.
void GenerationSession::make_room() {
  if (stream_ == nullptr || !stream_->congested()) return;
  stream_->flush();
  if (stream_->overflowed()) {
    cut_stream();
  } else if (stream_->congested()) {
    merge_events_ = true;
  }
}

void GenerationSession::handle(const ChoiceEvent& event) {
  Choice& choice = choices_[event.choice_idx];
  if (!choice.open) return;
  if (auto failure = failure_of(event.event)) {
    if (!event.event.error.empty()) {
      context_.logger.warning("request {}: {}", exchange_.request().request_id, event.event.error);
    }
    choice.open = false;
    --num_open_;
    end(std::move(*failure), "failed");
    return;
  }
  if (output_.on_event(event.choice_idx, event.event)) {
    close_choice(choice, !event.event.finished, "stop_string");
    if (num_open_ == 0) done_.set();
  }
}

void GenerationSession::close_choice(Choice& choice, bool cancel_in_engine, const char* cause) {
  if (!std::exchange(choice.open, false)) return;
  --num_open_;
  if (!cancel_in_engine) return;
  context_.engine.cancel(choice.id);
  context_.metrics.api().aborts.with({cause}).add();
}

void GenerationSession::end(Error error, const char* cause) {
  if (done_.is_set()) return;
  for (Choice& choice : choices_) close_choice(choice, true, cause);
  error_ = std::move(error);
  done_.set();
}

void GenerationSession::cut_stream() {
  const Error error{
      ErrorCode::kTimeout, "The client reads too slowly; the stream was cut.", {}, "slow_client"};
  stream_->cut(sse_error(error));
  end({ErrorCode::kCancelled, error.message, {}, {}}, "slow_client");
}

}  // namespace beryl::api
