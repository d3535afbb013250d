#include "bench/serve/serve_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "bench/load/client_cpu.h"
#include "bench/load/http_client.h"
#include "bench/serve/arrivals.h"

namespace beryl::load {
namespace {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

constexpr size_t kMaxShownBytes = 300;  // of a server's answer, in errors

double ms_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

// State of one run; lives on the stack of run_requests.
class Run {
 public:
  Run(const ServeOptions& options, std::span<const Prompt> prompts, const RecordListener& listener)
      : options_(options),
        prompts_(prompts),
        listener_(listener),
        arrivals_(
            arrival_seconds(static_cast<int>(prompts.size()), options.request_rate, options.seed)) {
    result_.records.resize(prompts.size());
  }

  ServeResult execute() {
    const asio::ip::tcp::endpoint endpoint = resolve(io_, options_.endpoint);
    const auto count = static_cast<int>(prompts_.size());
    const int num_clients =
        options_.max_concurrency > 0 ? std::min(options_.max_concurrency, count) : count;
    std::vector<std::unique_ptr<HttpClient>> clients;
    for (int i = 0; i < num_clients; ++i) {
      clients.push_back(std::make_unique<HttpClient>(io_, endpoint));
    }
    const double cpu_before = client_cpu_seconds();
    start_ = last_end_ = Clock::now();
    for (auto& client : clients) asio::co_spawn(io_, loop(*client), asio::detached);
    io_.run();
    result_.seconds = ms_between(start_, last_end_) / 1000;
    result_.client_cpu_seconds = client_cpu_seconds() - cpu_before;
    return std::move(result_);
  }

 private:
  asio::awaitable<void> loop(HttpClient& client) {
    while (next_ < prompts_.size()) {
      const size_t index = next_++;
      const Clock::time_point due = start_ + std::chrono::duration_cast<Clock::duration>(
                                                 std::chrono::duration<double>(arrivals_[index]));
      if (due > Clock::now()) {
        asio::steady_timer timer(io_, due);
        co_await timer.async_wait(asio::use_awaitable);
      } else if (options_.request_rate > 0 && index > 0) {
        ++result_.late_starts;
      }
      co_await send(client, index);
    }
    client.close();
  }

  asio::awaitable<void> send(HttpClient& client, size_t index) {
    const Prompt& prompt = prompts_[index];
    const std::string path =
        options_.type == EndpointType::kChat ? "/v1/chat/completions" : "/v1/completions";
    const std::string request =
        http_request(options_.endpoint, path, request_body(options_, prompt));
    StreamAccount account;
    const BodyListener take = [&account](std::string_view bytes) {
      account.feed(bytes, Clock::now());
    };
    asio::steady_timer deadline(io_, options_.request_deadline);
    deadline.async_wait([&client](const boost::system::error_code& error) {
      if (!error) client.close();
    });
    const Clock::time_point sent = Clock::now();
    const HttpClient::Answer answer = co_await client.send(request, take);
    deadline.cancel();
    last_end_ = Clock::now();
    RequestRecord& record = result_.records[index];
    if (answer.status == 200) {
      fill(record, prompt, account, sent);
    } else if (answer.status == 0) {
      record.error = "no whole answer: broken connection or --request-timeout";
      if (!account.error().empty()) record.error += "; " + account.error();
    } else {
      record.error =
          fmt::format("status {}: {}", answer.status, answer.body.substr(0, kMaxShownBytes));
    }
    if (listener_) listener_(record);
  }

  void fill(RequestRecord& record, const Prompt& prompt, const StreamAccount& account,
            Clock::time_point sent) const {
    record.error = find_fault(options_, prompt, account);
    record.prompt_tokens = std::max<int64_t>(0, account.prompt_tokens());
    record.output_tokens = std::max<int64_t>(0, account.completion_tokens());
    record.text = account.text();
    const auto& times = account.event_times();
    // Tokens may show no text at all; then the end of the answer is the first sign of it.
    record.ttft_ms = ms_between(sent, times.empty() ? account.last_event() : times.front());
    record.e2el_ms = ms_between(sent, account.last_event());
    for (size_t i = 1; i < times.size(); ++i) {
      record.itl_ms.push_back(ms_between(times[i - 1], times[i]));
    }
  }

  const ServeOptions& options_;
  const std::span<const Prompt> prompts_;
  const RecordListener& listener_;
  const std::vector<double> arrivals_;
  asio::io_context io_{1};
  Clock::time_point start_;
  Clock::time_point last_end_;
  size_t next_ = 0;
  ServeResult result_;
};

}  // namespace

std::string request_body(const ServeOptions& options, const Prompt& prompt) {
  nlohmann::json fields = {{"model", options.model},
                           {"max_tokens", options.output_tokens},
                           {"temperature", options.temperature},
                           {"stream", true},
                           {"stream_options", {{"include_usage", true}}}};
  if (options.ignore_eos) fields["ignore_eos"] = true;
  if (!options.cache_salt.empty()) fields["cache_salt"] = options.cache_salt;
  // Otherwise such tokens send no event, and the time of the first one would not be seen.
  if (options.type == EndpointType::kCompletions) fields["skip_special_tokens"] = false;
  std::string body = fields.dump();
  body.back() = ',';
  return body + prompt.field + "}";
}

std::string find_fault(const ServeOptions& options, const Prompt& prompt,
                       const StreamAccount& account) {
  if (!account.error().empty()) return account.error();
  if (!account.is_finished()) return "the stream ended without [DONE]";
  if (account.prompt_tokens() < 0 || account.completion_tokens() < 0) {
    return "the stream has no usage";
  }
  if (prompt.num_tokens >= 0 && account.prompt_tokens() != prompt.num_tokens) {
    return fmt::format("{} prompt tokens were sent, usage says {}", prompt.num_tokens,
                       account.prompt_tokens());
  }
  if (account.finish_reason().empty()) return "the stream has no finish_reason";
  if (account.completion_tokens() == 0) return "no token was generated";
  if (account.completion_tokens() > options.output_tokens) {
    return fmt::format("{} tokens were asked for, usage says {}", options.output_tokens,
                       account.completion_tokens());
  }
  if (!options.ignore_eos) return {};
  if (account.completion_tokens() != options.output_tokens) {
    return fmt::format("{} tokens were asked for with ignore_eos, usage says {}",
                       options.output_tokens, account.completion_tokens());
  }
  if (account.finish_reason() != "length") {
    return "finish_reason is " + account.finish_reason() + ", not length, with ignore_eos";
  }
  return {};
}

ServeResult run_requests(const ServeOptions& options, std::span<const Prompt> prompts,
                         const RecordListener& listener) {
  return Run(options, prompts, listener).execute();
}

}  // namespace beryl::load
