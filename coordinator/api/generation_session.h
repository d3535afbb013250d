// Runs the choices of one client request: submits them, hands their events to an output, cancels
// them when the client is gone, too slow, or a stop string was found. Lives on the executor of the
// connection.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "coordinator/api/event_mailbox.h"
#include "coordinator/api/server_context.h"
#include "coordinator/http/exchange.h"

namespace beryl::api {

// Turns events into an answer.
class GenerationOutput {
 public:
  virtual ~GenerationOutput() = default;
  // True when this choice is over, also if the engine does not know yet (stop string).
  virtual bool on_event(uint32_t choice_idx, const scheduler::SchedulerEvent& event) = 0;
};

class GenerationSession {
 public:
  GenerationSession(ServerContext& context, http::Exchange& exchange, GenerationOutput& output);
  // Cancels what is not finished.
  ~GenerationSession();
  GenerationSession(const GenerationSession&) = delete;
  GenerationSession& operator=(const GenerationSession&) = delete;

  // All or none.
  base::Status submit(std::vector<cluster::GenerationRequest> requests);
  // Events go out on `stream`, which tells when the client is too slow. After submit().
  void attach(http::SseStream& stream);

  // Waits until all choices are over. kCancelled: nobody is there to be answered.
  boost::asio::awaitable<base::Status> run();

 private:
  struct Choice {
    scheduler::RequestId id = 0;
    bool open = true;
  };

  void pump();
  void make_room();
  void handle(const ChoiceEvent& event);
  void close_choice(Choice& choice, bool cancel_in_engine, const char* cause);
  void end(base::Error error, const char* cause);
  void cut_stream();

  ServerContext& context_;
  http::Exchange& exchange_;
  GenerationOutput& output_;
  std::shared_ptr<EventMailbox> mailbox_;
  std::vector<Choice> choices_;
  size_t num_open_ = 0;
  http::SseStream* stream_ = nullptr;
  bool merge_events_ = false;       // the client was slow: fewer, larger events
  std::deque<ChoiceEvent> events_;  // taken and not yet handled
  std::optional<base::Error> error_;
  http::OneShotEvent done_;
};

// The error event of a stream.
std::string sse_error(const base::Error& error);

}  // namespace beryl::api
