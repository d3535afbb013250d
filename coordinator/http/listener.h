// Accepts connections and hands them to the I/O threads in turn. Survives running out of file
// descriptors.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <vector>

#include "coordinator/http/io_thread.h"

namespace beryl::http {

class Listener {
 public:
  // Everything must outlive this.
  Listener(ServerState& state, std::vector<std::unique_ptr<IoThread>>& io_threads);
  ~Listener();

  base::Status bind();
  uint16_t port() const { return port_; }
  // Runs on the first I/O thread until that is stopped or close() is called.
  void start();
  void close();

 private:
  boost::asio::awaitable<void> run();
  void place(Socket socket, IoThread& io_thread);
  void shed_one();

  ServerState& state_;
  std::vector<std::unique_ptr<IoThread>>& io_threads_;
  boost::asio::ip::tcp::acceptor acceptor_;
  int spare_fd_;  // closed for a moment to accept and drop a connection when there is no other
  uint16_t port_ = 0;
};

}  // namespace beryl::http
