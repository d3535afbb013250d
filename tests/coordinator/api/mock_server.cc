// The front end over a MockEngine as a process, to try clients and load generators on:
//   mock_server TOKENIZER_JSON [PORT [STEP_US [IO_THREADS [OUTPUT]]]]
// Serves until SIGINT or SIGTERM, then drains. OUTPUT is what every request "generates".
#include <fmt/format.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <string>

#include "coordinator/api/routes.h"
#include "coordinator/cluster/mock_engine.h"
#include "coordinator/http/server.h"

int main(int argc, char** argv) {
  using namespace beryl;  // NOLINT: a program
  if (argc < 2) {
    fmt::print(stderr,
               "usage: mock_server TOKENIZER_JSON [PORT [STEP_US [IO_THREADS [OUTPUT]]]]\n");
    return 2;
  }
  const auto number = [&](int i, int otherwise) {
    return argc > i ? std::atoi(argv[i]) : otherwise;
  };
  base::Logger logger("mock");
  const auto tokenizer = text::Tokenizer::load(argv[1]);
  if (!tokenizer) {
    logger.error("{}", tokenizer.error().message);
    return 1;
  }
  const auto format = text::ChatFormat::create(**tokenizer, text::TemplateRevision::kJuly2026);
  const auto script = (*tokenizer)->encode_with_special(argc > 5 ? argv[5] : "Hello there. ");
  if (!format || !script) return 1;

  cluster::MockEngineOptions engine_options;
  engine_options.model.vocab_size = static_cast<uint32_t>((*tokenizer)->vocab_size());
  engine_options.model.max_model_len = 262'144;
  engine_options.step_time = std::chrono::microseconds(number(3, 0));
  engine_options.script = [&](const cluster::GenerationRequest&) { return *script; };
  cluster::MockEngine engine(std::move(engine_options));

  metrics::Registry registry;
  metrics::ServerMetrics metrics(registry, "mock");
  api::ServerOptions options;
  options.served_model_names = {"mock"};
  api::ServerContext context{engine, **tokenizer, *format, metrics, options, logger};
  http::Server::Parts parts;
  parts.config.port = static_cast<uint16_t>(number(2, 8000));
  parts.config.num_io_threads = static_cast<size_t>(number(4, 1));
  parts.hooks = api::register_routes(parts.router, context);
  http::Server server(std::move(parts), metrics.http(), logger);
  if (const base::Status status = server.start(); !status) {
    logger.error("{}", status.error().message);
    return 1;
  }
  logger.info("serving on port {}", server.port());
  boost::asio::io_context signals_context;
  boost::asio::signal_set signals(signals_context, SIGINT, SIGTERM);
  signals.async_wait(
      [&](boost::system::error_code, int) { server.drain(std::chrono::seconds(10)); });
  signals_context.run();
  server.stop();
  return 0;
}
