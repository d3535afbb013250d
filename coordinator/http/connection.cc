#include "coordinator/http/connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <exception>
#include <utility>

#include "coordinator/http/cors.h"

namespace beryl::http {

namespace asio = boost::asio;
using base::Error;
using base::ErrorCode;
using base::Status;
using boost::system::error_code;

namespace {

constexpr size_t kKeptBodyBytes = 64 * kKiB;  // capacity kept for the next request
constexpr size_t kMaxRequestIdBytes = 128;

// Counts a request from its head to its last byte: what a drain waits for.
class InFlight {
 public:
  explicit InFlight(std::atomic<size_t>& count) : count_(count) { ++count_; }
  InFlight(const InFlight&) = delete;
  InFlight& operator=(const InFlight&) = delete;
  ~InFlight() { --count_; }

 private:
  std::atomic<size_t>& count_;
};

bool has_body(const Request& request) {
  return request.chunked || request.content_length.value_or(0) > 0;
}

Error draining_error() {
  return {ErrorCode::kUnavailable, "The server is shutting down.", {}, "server_draining"};
}

}  // namespace

Connection::Connection(Socket socket, ConnectionBudget::Slot slot, ServerState& state,
                       const std::string& date)
    : socket_(std::move(socket)), slot_(std::move(slot)), state_(state), date_(date) {}

asio::awaitable<void> Connection::run() {
  Next next = Next::kNextRequest;
  while (next == Next::kNextRequest) next = co_await serve_one();
  if (next == Next::kLinger && !aborted_) co_await linger();
  error_code ignored;
  socket_.close(ignored);
}

asio::awaitable<Connection::Next> Connection::serve_one() {
  Status head_status;
  if (!co_await read_head(head_status)) co_return Next::kClose;
  const InFlight in_flight(state_.num_requests_in_flight);
  request_started_ = Clock::now();
  route_ = nullptr;
  choose_request_id();
  if (!head_status) {
    request_.keep_alive = false;
    request_.method = {};
    co_return co_await refuse(head_status.error(), false);
  }
  co_return co_await serve_request();
}

asio::awaitable<Connection::Next> Connection::serve_request() {
  if (is_preflight(state_.config.cors, request_)) {
    co_return co_await finish_answer(preflight_response(state_.config.cors, request_));
  }
  const auto route = admit();
  if (!route) co_return co_await refuse(route.error(), !has_body(request_));
  route_ = *route;
  ConnectionBudget::Body held(state_.budget);
  if (has_body(request_)) {
    if (request_.expects_continue && unread().empty() && !co_await write_continue()) {
      co_return Next::kClose;
    }
    if (Status status = co_await read_body(*route_, held); !status) {
      if (status.error().code == ErrorCode::kCancelled) co_return Next::kClose;
      co_return co_await refuse(status.error(), false);
    }
  }
  co_return co_await finish_answer(co_await handle(*route_));
}

base::Expected<const Route*> Connection::admit() {
  Router::Match match = state_.router.find(request_.method, request_.path);
  if (match.route == nullptr || match.route->needs_key) {
    if (Status status = state_.hooks.authenticate(request_); !status) return status.error();
  }
  if (match.route == nullptr) {
    if (match.allowed_methods.empty()) {
      return Error{
          ErrorCode::kNotFound, "There is no such path on this server.", {}, "unknown_path"};
    }
    return Error{ErrorCode::kMethodNotAllowed, "This path does not take this method.",
                 std::move(match.allowed_methods), "method_not_allowed"};
  }
  if (is_draining() && !match.route->while_draining) return draining_error();
  if (Status status = check_body_size(*match.route); !status) return status.error();
  request_.path_param = std::move(match.path_param);
  return match.route;
}

Status Connection::check_body_size(const Route& route) const {
  const size_t max_bytes =
      route.max_body_bytes > 0 ? route.max_body_bytes : limits().default_body_bytes;
  if (request_.content_length.value_or(0) > max_bytes) {
    return Error{ErrorCode::kPayloadTooLarge,
                 fmt::format("The request body is larger than {} bytes.", max_bytes),
                 {},
                 {}};
  }
  const auto encoding = request_.header("content-encoding");
  if (has_body(request_) && encoding && *encoding != "identity") {
    return Error{
        ErrorCode::kUnsupportedMediaType, "Compressed request bodies are not supported.", {}, {}};
  }
  return Status::ok();
}

asio::awaitable<Response> Connection::handle(const Route& route) {
  std::exception_ptr thrown;
  try {
    co_return co_await route.handler(*this);
  } catch (...) {
    thrown = std::current_exception();
  }
  try {
    std::rethrow_exception(thrown);
  } catch (const std::exception& error) {
    state_.logger.error("handler of {} failed: {}", route.path, error.what());
  }
  if (stream_) {
    stream_->abort(false);
    Response streamed;
    streamed.streamed = true;
    co_return streamed;
  }
  co_return state_.hooks.format_error(
      {ErrorCode::kInternal, "Internal error.", {}, "internal_error"});
}

asio::awaitable<Connection::Next> Connection::refuse(Error error, bool keep_framing) {
  state_.metrics.rejected
      .with({error.reason.empty() ? fmt::format("code_{}", static_cast<int>(error.code))
                                  : error.reason})
      .add();
  Response response = state_.hooks.format_error(error);
  if (!keep_framing) response.close = true;
  co_return co_await finish_answer(std::move(response));
}

asio::awaitable<Connection::Next> Connection::finish_answer(Response response) {
  disconnect_callback_ = nullptr;
  bool sent = false;
  if (response.streamed && stream_) {
    sent = co_await stream_->finish();
    if (stream_->stalled() || stream_->was_cut()) state_.metrics.sse_slow_client_closes.add();
    if (stream_->was_cut() || response.close) request_.keep_alive = false;
  } else if (!client_gone_) {
    if (response.close || is_draining()) request_.keep_alive = false;
    sent = co_await write(response);
  }
  record(sent ? response.status : 499);
  stream_.reset();
  if (request_.body.capacity() > kKeptBodyBytes) request_.body = {};
  if (!sent || aborted_ || client_gone_) co_return Next::kClose;
  co_return request_.keep_alive ? Next::kNextRequest : Next::kLinger;
}

asio::awaitable<bool> Connection::write(Response& response) {
  add_cors_headers(state_.config.cors, request_, response.headers);
  out_head_.clear();
  append_head(response, head_context(), out_head_);
  if (request_.method == "HEAD") response.body.clear();
  const std::array<asio::const_buffer, 2> buffers = {asio::buffer(out_head_),
                                                     asio::buffer(response.body)};
  deadline_.expire_after(limits().write_stall +
                         time_at_rate(response.body.size(), limits().min_write_bytes_per_s));
  error_code error;
  co_await asio::async_write(socket_, buffers, asio::redirect_error(asio::use_awaitable, error));
  deadline_.clear();
  co_return !error;
}

asio::awaitable<bool> Connection::write_continue() {
  constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
  deadline_.expire_after(limits().write_stall);
  error_code error;
  co_await asio::async_write(socket_, asio::buffer(kContinue),
                             asio::redirect_error(asio::use_awaitable, error));
  deadline_.clear();
  co_return !error;
}

SseStream& Connection::start_stream(HeaderFields headers) {
  if (is_draining()) request_.keep_alive = false;
  if (request_.minor_version == 0) request_.keep_alive = false;
  add_cors_headers(state_.config.cors, request_, headers);
  stream_.emplace(socket_, deadline_, limits(),
                  SseStream::Options{.chunked = request_.minor_version == 1, .discard = false});
  stream_->set_owner(weak_from_this());
  out_head_.clear();
  append_stream_head(headers, head_context(), out_head_);
  stream_->set_head(out_head_);
  return *stream_;
}

void Connection::on_tick(Clock::time_point now) {
  if (now >= deadline_.at) {
    deadline_.clear();
    timed_out_ = true;
    state_.metrics.limits_reached.with({stream_ ? "write_stall" : "time"}).add();
    if (stream_) stream_->abort(true);
    error_code ignored;
    socket_.cancel(ignored);
  } else if (stream_) {
    stream_->ping(now);
  }
}

void Connection::abort() {
  aborted_ = true;
  error_code ignored;
  socket_.close(ignored);
  if (auto callback = std::exchange(disconnect_callback_, nullptr)) callback();
  if (stream_) stream_->abort(false);
}

void Connection::record(int status) {
  const std::string handler = route_ != nullptr ? route_->path : "none";
  const bool known = request_.method == "GET" || request_.method == "POST" ||
                     request_.method == "HEAD" || request_.method == "OPTIONS";
  state_.metrics.requests
      .with({handler, known ? std::string(request_.method) : "other", fmt::format("{}", status)})
      .add();
  const std::chrono::duration<double> elapsed = Clock::now() - request_started_;
  state_.metrics.duration_s.with({handler}).observe(elapsed.count());
  state_.logger.debug("{} {} {} in {:.1f} ms, request {}", known ? request_.method : "-", handler,
                      status, elapsed.count() * 1e3, request_.request_id);
}

// The id of the client is only echoed and logged, never used as a key.
void Connection::choose_request_id() {
  const auto given = request_.header("x-request-id");
  const bool usable = given && !given->empty() && given->size() <= kMaxRequestIdBytes &&
                      std::all_of(given->begin(), given->end(),
                                  [](unsigned char c) { return c > 0x20 && c < 0x7f; });
  request_.request_id =
      usable ? std::string(*given) : fmt::format("req-{:012x}", state_.next_request_id++);
}

HeadContext Connection::head_context() const {
  return {.request_id = request_.request_id,
          .date = date_,
          .keep_alive = request_.keep_alive,
          .minor_version = request_.minor_version};
}

}  // namespace beryl::http
