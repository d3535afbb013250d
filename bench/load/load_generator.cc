#include "bench/load/load_generator.h"

#include <fmt/format.h>

#include <boost/asio.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "bench/load/client_cpu.h"
#include "bench/load/http_client.h"

namespace beryl::load {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using Clock = std::chrono::steady_clock;

double ms_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

std::string http_request(const LoadOptions& options, bool stream) {
  const nlohmann::json body = {
      {"model", options.model},
      {"messages", {{{"role", "user"}, {"content", options.prompt}}}},
      {"max_tokens", options.max_tokens},
      {"temperature", 0},
      {"ignore_eos", true},
      {"seed", 1},
      {"stream", stream},
  };
  const std::string text = body.dump();
  return fmt::format(
      "POST /v1/chat/completions HTTP/1.1\r\nHost: {}:{}\r\nContent-Type: application/json\r\n{}"
      "Content-Length: {}\r\n\r\n{}",
      options.host, options.port,
      options.api_key.empty() ? "" : fmt::format("Authorization: Bearer {}\r\n", options.api_key),
      text.size(), text);
}

tcp::endpoint resolve(asio::io_context& io, const LoadOptions& options) {
  return *tcp::resolver(io).resolve(options.host, std::to_string(options.port)).begin();
}

// Text of a whole answer, or of the deltas of a stream.
std::string answer_text(const std::string& body, bool stream) {
  if (!stream) {
    return nlohmann::json::parse(body)["choices"][0]["message"].value("content", "");
  }
  std::string text;
  for (size_t at = 0; (at = body.find("data: ", at)) != std::string::npos;) {
    at += 6;
    const std::string data = body.substr(at, body.find('\n', at) - at);
    if (data == "[DONE]") break;
    const auto event = nlohmann::json::parse(data);
    for (const auto& choice : event["choices"]) {
      const auto& delta = choice["delta"];
      if (delta.contains("content") && delta["content"].is_string()) {
        text += delta["content"].get<std::string>();
      }
    }
  }
  return text;
}

// State of one run; lives on the stack of run_load.
class Run {
 public:
  explicit Run(const LoadOptions& options)
      : options_(options),
        stream_request_(http_request(options, true)),
        plain_request_(http_request(options, false)),
        start_(Clock::now()),
        measure_from_(start_ + options.warmup),
        end_(measure_from_ + options.duration) {}

  LoadReport execute() {
    const tcp::endpoint endpoint = resolve(io_, options_);
    std::vector<std::unique_ptr<HttpClient>> clients;
    for (int i = 0; i < options_.concurrency; ++i) {
      clients.push_back(std::make_unique<HttpClient>(io_, endpoint));
      asio::co_spawn(io_, loop(*clients.back()), asio::detached);
    }
    asio::co_spawn(io_, watch(clients), asio::detached);
    io_.run();
    report_.seconds = ms_between(measure_from_, end_) / 1000;
    return std::move(report_);
  }

 private:
  asio::awaitable<void> loop(HttpClient& client) {
    while (Clock::now() < end_) {
      Clock::time_point intended = Clock::now();
      if (options_.rate > 0) {
        intended =
            start_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(
                         static_cast<double>(num_started_++) / options_.rate));
        if (intended >= end_) co_return;
        if (intended > Clock::now()) {
          asio::steady_timer timer(io_, intended);
          co_await timer.async_wait(asio::use_awaitable);
        } else if (intended >= measure_from_) {
          ++report_.late_starts;
        }
      }
      const bool stream = next_is_stream();
      const HttpClient::Answer answer =
          co_await client.send(stream ? stream_request_ : plain_request_, false);
      record(intended, stream, answer);
    }
    client.close();
  }

  // Cuts what is still open when the run is over, so that no wait outlives it.
  asio::awaitable<void> watch(std::vector<std::unique_ptr<HttpClient>>& clients) {
    asio::steady_timer timer(io_, measure_from_);
    co_await timer.async_wait(asio::use_awaitable);
    cpu_at_start_ = client_cpu_seconds();
    timer.expires_at(end_);
    co_await timer.async_wait(asio::use_awaitable);
    report_.client_cpu_seconds = client_cpu_seconds() - cpu_at_start_;
    timer.expires_after(options_.request_deadline);
    for (auto& client : clients) client->close();
  }

  // Error diffusion: of the first k requests, round(k * stream_share) are streams.
  bool next_is_stream() {
    share_error_ += options_.stream_share;
    if (share_error_ < 0.5) return false;
    share_error_ -= 1;
    return true;
  }

  void record(Clock::time_point intended, bool stream, const HttpClient::Answer& answer) {
    const Clock::time_point now = Clock::now();
    if (intended < measure_from_ || now > end_) return;
    if (answer.status != 200) {
      ++report_.errors;
      if (answer.status == 429 || answer.status == 503) ++report_.rejected;
      return;
    }
    ++report_.requests;
    report_.events += answer.events;
    report_.total_ms.add(ms_between(intended, now));
    if (stream) report_.first_event_ms.add(ms_between(intended, answer.first_event));
  }

  const LoadOptions& options_;
  const std::string stream_request_;
  const std::string plain_request_;
  asio::io_context io_{1};
  Clock::time_point start_;
  Clock::time_point measure_from_;
  Clock::time_point end_;
  uint64_t num_started_ = 0;
  double share_error_ = 0;
  double cpu_at_start_ = 0;
  LoadReport report_;
};

}  // namespace

base::Status verify_endpoint(const LoadOptions& options) {
  asio::io_context io{1};
  HttpClient client(io, resolve(io, options));
  std::string texts[2];
  int statuses[2] = {0, 0};
  asio::co_spawn(
      io,
      [&]() -> asio::awaitable<void> {
        for (int i = 0; i < 2; ++i) {
          const auto answer = co_await client.send(http_request(options, i == 0), true);
          statuses[i] = answer.status;
          if (answer.status == 200) texts[i] = answer_text(answer.body, i == 0);
        }
        client.close();
      },
      [](const std::exception_ptr& e) {
        if (e) std::rethrow_exception(e);
      });
  try {
    io.run_for(options.request_deadline);
  } catch (const std::exception& error) {
    return base::invalid_argument("endpoint", fmt::format("malformed answer: {}", error.what()));
  }
  if (statuses[0] != 200 || statuses[1] != 200) {
    return base::invalid_argument(
        "endpoint", fmt::format("{}:{} answered status {} to a streamed and {} to a whole request",
                                options.host, options.port, statuses[0], statuses[1]));
  }
  if (texts[0].empty() || texts[0] != texts[1]) {
    return base::invalid_argument(
        "endpoint", fmt::format("the streamed answer ({} bytes) differs from the whole one ({})",
                                texts[0].size(), texts[1].size()));
  }
  return base::Status::ok();
}

LoadReport run_load(const LoadOptions& options) {
  return Run(options).execute();
}

}  // namespace beryl::load
