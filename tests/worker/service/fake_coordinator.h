// One end of a worker's connection, driven by a test line by line.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "parallel/wire/connection.h"
#include "parallel/wire/handshake.h"
#include "parallel/wire/limits.h"

namespace beryl::service {

class FakeCoordinator {
 public:
  static constexpr std::chrono::milliseconds kPatience{10'000};

  FakeCoordinator() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    (void)::bind(listener_, reinterpret_cast<sockaddr*>(&address), size);
    (void)::listen(listener_, 4);
    (void)::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
  }
  ~FakeCoordinator() { ::close(listener_); }

  wire::Endpoint endpoint() const { return {"127.0.0.1", port_}; }

  // Accepts the worker and takes it through the handshake.
  std::optional<wire::Registration> greet(const wire::Secret& secret) {
    accept();
    wire::CoordinatorHandshake handshake(secret);
    const auto hello = receive();
    if (!hello) return std::nullopt;
    const auto challenge = handshake.on_hello(*hello);
    if (!challenge) return std::nullopt;
    send(*challenge);
    const auto answer = receive();
    if (!answer) return std::nullopt;
    const auto registration = handshake.on_registration(*answer);
    if (!registration) return std::nullopt;
    return *registration;
  }
  // The same of its second connection, for send_bulk() and close_bulk().
  std::optional<wire::BulkRegistration> greet_bulk(const wire::Secret& secret) {
    bulk_ = std::make_unique<wire::Connection>(::accept(listener_, nullptr, nullptr));
    wire::CoordinatorHandshake handshake(secret);
    const auto hello = bulk_->receive(wire::kMaxHandshakeFrameBytes, kPatience);
    if (!hello) return std::nullopt;
    const auto challenge = handshake.on_hello(*hello);
    if (!challenge) return std::nullopt;
    send_bulk(*challenge);
    const auto answer = bulk_->receive(wire::kMaxHandshakeFrameBytes, kPatience);
    if (!answer) return std::nullopt;
    const auto registration = handshake.on_bulk_registration(*answer);
    if (!registration) return std::nullopt;
    return *registration;
  }
  void send_bulk(const wire::Frame& frame) {
    (void)bulk_->send(frame, wire::kMaxPictureFrameBytes, kPatience);
  }
  void close_bulk() { bulk_.reset(); }
  void accept() {
    connection_ = std::make_unique<wire::Connection>(::accept(listener_, nullptr, nullptr));
  }

  void welcome(uint32_t heartbeat_deadline_ms) {
    wire::Frame frame;
    frame.mutable_welcome()->set_epoch(7);
    frame.mutable_welcome()->set_heartbeat_interval_ms(20);
    frame.mutable_welcome()->set_heartbeat_deadline_ms(heartbeat_deadline_ms);
    frame.mutable_welcome()->set_step_deadline_ms(10'000);
    send(frame);
  }
  void send(const wire::Frame& frame) {
    (void)connection_->send(frame, wire::kMaxPlanFrameBytes, kPatience);
  }
  std::optional<wire::Frame> receive() {
    auto frame = connection_->receive(wire::kMaxResultFrameBytes, kPatience);
    if (!frame) return std::nullopt;
    return *std::move(frame);
  }
  // The next frame of that kind; others are skipped.
  std::optional<wire::Frame> receive(wire::Frame::BodyCase kind) {
    while (auto frame = receive()) {
      if (frame->body_case() == kind) return frame;
    }
    return std::nullopt;
  }
  void close() { connection_.reset(); }

 private:
  int listener_;
  uint16_t port_ = 0;
  std::unique_ptr<wire::Connection> connection_;
  std::unique_ptr<wire::Connection> bulk_;
};

}  // namespace beryl::service
