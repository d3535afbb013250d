// What a handler sees of one request being answered.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <functional>

#include "coordinator/http/request.h"
#include "coordinator/http/response.h"
#include "coordinator/http/sse_stream.h"
#include "coordinator/http/worker_pool.h"

namespace beryl::http {

// All methods on executor() only. Valid until the handler returns.
class Exchange {
 public:
  virtual ~Exchange() = default;

  virtual Request& request() = 0;
  virtual boost::asio::any_io_executor executor() = 0;
  virtual WorkerPool& worker_pool() = 0;
  // For jobs that wait for others or take long: downloads, pictures.
  virtual WorkerPool& slow_worker_pool() = 0;

  // Calls `callback` at most once, when the client has gone (connection closed or reset; a client
  // that only stops sending counts as gone), or when the server stops. Forgotten when the handler
  // returns. Without it the connection does not look.
  virtual void on_disconnect(std::function<void()> callback) = 0;

  // The server is shutting down: what is under way goes on.
  virtual bool is_draining() const = 0;

  // Prepares an event stream; nothing is sent before its first flush(), and until then the handler
  // may still return an ordinary Response. Otherwise it returns one with `streamed`, and the
  // connection ends the stream. At most once.
  virtual SseStream& start_stream(HeaderFields headers) = 0;
};

}  // namespace beryl::http
