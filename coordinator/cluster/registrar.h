// Registrar: listens for workers and takes each through the handshake. Whoever cannot prove the
// secret within kHandshakeDeadline is gone; nothing else of it is read.
#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <variant>

#include "coordinator/cluster/cluster_options.h"
#include "parallel/base/expected.h"
#include "parallel/base/log.h"
#include "parallel/wire/cluster.pb.h"
#include "parallel/wire/secret.h"

namespace beryl::cluster {

class Registrar {
 public:
  // What comes next of a connection whose other side knows the secret: its first one registers a
  // worker, the second is for pictures.
  using AnyRegistration = std::variant<wire::Registration, wire::BulkRegistration>;
  // Takes the socket over (see release()), or says why the worker is refused.
  using OnWorker =
      std::function<base::Status(boost::asio::ip::tcp::socket& socket, AnyRegistration)>;

  // All references must outlive it. Throws std::runtime_error when it cannot listen.
  Registrar(boost::asio::io_context& io, const ClusterOptions& options, const wire::Secret& secret,
            base::Logger& log, OnWorker on_worker);
  Registrar(const Registrar&) = delete;
  Registrar& operator=(const Registrar&) = delete;

  uint16_t port() const { return port_; }
  void stop();

 private:
  boost::asio::awaitable<void> accept_loop();
  boost::asio::awaitable<void> greet(std::shared_ptr<boost::asio::ip::tcp::socket> socket);
  boost::asio::awaitable<base::Expected<AnyRegistration>> shake_hands(
      boost::asio::ip::tcp::socket& socket);

  const ClusterOptions& options_;
  const wire::Secret& secret_;
  base::Logger& log_;
  OnWorker on_worker_;
  boost::asio::ip::tcp::acceptor acceptor_;
  uint16_t port_ = 0;
  uint32_t num_greeting_ = 0;
};

}  // namespace beryl::cluster
