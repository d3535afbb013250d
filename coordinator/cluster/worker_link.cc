#include "coordinator/cluster/worker_link.h"

#include <array>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <utility>

#include "parallel/wire/framing.h"

namespace beryl::cluster {

namespace asio = boost::asio;

namespace {

constexpr std::chrono::milliseconds kLinger{1'000};

std::string describe(const boost::system::error_code& error) {
  const bool is_closed = error == asio::error::eof || error == asio::error::connection_reset ||
                         error == asio::error::broken_pipe;
  return is_closed ? "the worker closed the connection" : error.message();
}

}  // namespace

struct WorkerLink::Reader {
  std::array<char, 64 * 1024> buffer;
  wire::FrameReader frames{wire::kMaxResultFrameBytes};
};

WorkerLink::WorkerLink(asio::ip::tcp::socket socket, wire::Registration registration,
                       LinkListener& listener, size_t max_queued_bytes)
    : socket_(std::move(socket)),
      registration_(std::move(registration)),
      listener_(listener),
      max_queued_bytes_(max_queued_bytes),
      reader_(std::make_shared<Reader>()),
      linger_timer_(socket_.get_executor()),
      last_heard_(Clock::now()) {
  boost::system::error_code ignored;
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
}

void WorkerLink::start() {
  read_more();
}

void WorkerLink::read_more() {
  reading_ = true;
  socket_.async_read_some(
      asio::buffer(reader_->buffer),
      [self = shared_from_this()](boost::system::error_code error, std::size_t num_bytes) {
        if (error) {
          const bool is_end = error == asio::error::eof || error == asio::error::connection_reset;
          self->fail(is_end ? "the worker closed the connection" : error.message());
        } else {
          self->on_read(num_bytes);
        }
      });
}

void WorkerLink::on_read(std::size_t num_bytes) {
  last_heard_ = Clock::now();
  reader_->frames.append({reader_->buffer.data(), num_bytes});
  while (!closed_) {
    auto frame = reader_->frames.next();
    if (!frame) {
      fail(frame.error().message);
      return;
    }
    if (!frame->has_value()) break;
    if (!leaving_) listener_.on_frame(*this, *std::move(*frame));
  }
  if (!closed_) read_more();
}

void WorkerLink::send(const wire::Frame& frame, size_t max_bytes) {
  auto bytes = wire::encode_frame(frame, max_bytes);
  if (!bytes) {
    asio::post(socket_.get_executor(), [self = shared_from_this(), error = bytes.error()] {
      self->fail("cannot send: " + error.message);
    });
    return;
  }
  send_bytes(std::make_shared<const std::string>(*std::move(bytes)));
}

void WorkerLink::send_bytes(std::shared_ptr<const std::string> bytes) {
  if (closed_ || leaving_) return;
  queued_bytes_ += bytes->size();
  queue_.push_back(std::move(bytes));
  if (queued_bytes_ > max_queued_bytes_) {
    asio::post(socket_.get_executor(),
               [self = shared_from_this()] { self->fail("the worker reads too slowly"); });
  } else if (!writing_) {
    write_more();
  }
}

void WorkerLink::write_more() {
  writing_ = true;
  const auto bytes = queue_.front();
  asio::async_write(
      socket_, asio::buffer(*bytes),
      [self = shared_from_this(), bytes](boost::system::error_code error, std::size_t) {
        self->writing_ = false;
        self->queue_.pop_front();
        self->queued_bytes_ -= bytes->size();
        if (error) {
          self->fail(describe(error));
        } else if (!self->queue_.empty()) {
          self->write_more();
        } else if (self->leaving_) {
          self->linger();
        } else if (!self->closed_) {
          self->listener_.on_drained(*self);
        }
      });
}

void WorkerLink::fail(const std::string& reason) {
  if (closed_) return;
  const bool tell = !leaving_;
  close(false);
  if (tell) listener_.on_closed(*this, reason);
}

void WorkerLink::close(bool flush) {
  if (closed_) return;
  if (flush) {
    if (leaving_) return;
    leaving_ = true;
    linger_timer_.expires_after(kLinger);
    linger_timer_.async_wait([self = shared_from_this()](boost::system::error_code error) {
      if (!error) self->close(false);
    });
    if (!writing_) linger();
    return;
  }
  closed_ = true;
  linger_timer_.cancel();
  boost::system::error_code ignored;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_both, ignored);
  socket_.close(ignored);
}

// All is sent. Closing now would discard it if the worker sent something that is still unread (the
// system answers with a reset), so the worker closes first or the timer does.
void WorkerLink::linger() {
  boost::system::error_code ignored;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  if (!reading_) read_more();
}

}  // namespace beryl::cluster
