#include "coordinator/api/handlers.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <utility>

#include "coordinator/api/error_response.h"

namespace beryl::api {

using base::Error;
using base::ErrorCode;
using base::Status;

namespace {

// Bodies up to this size are parsed and tokenized at once (well below a millisecond); a switch to
// the pool and back would take longer than small ones need.
constexpr size_t kInlineBodyBytes = 4096;
constexpr size_t kMaxUnknownLogged = 1000;
constexpr size_t kMaxRequestIdBytes = 128;

int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

uint64_t random_start() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

// SplitMix64: one atomic addition gives each caller its own well-mixed number.
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

bool is_short_and_plain(std::string_view text, size_t max_bytes) {
  return !text.empty() && text.size() <= max_bytes &&
         std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return c > 0x20 && c < 0x7f && c != '"'; });
}

// Why a download or a decoder failed is for the log.
media::MediaOptions logging_options(media::MediaOptions options, base::Logger& logger,
                                    metrics::MediaMetrics& metrics) {
  options.fetch.on_failure = [&logger, &metrics](std::string_view why) {
    metrics.fetch_failures.add();
    logger.info("a URL of a client could not be fetched: {}", why);
  };
  options.on_decoder_failure = [&logger, &metrics](std::string_view why) {
    metrics.decoder_failures.add();
    logger.warning("the decoder of a client's video failed: {}", why);
  };
  return options;
}

}  // namespace

Handlers::Handlers(ServerContext& context)
    : context_(context),
      keys_(context.options.api_keys),
      media_metrics_(context.metrics.registry()),
      media_loader_(logging_options(context.options.media, context.logger, media_metrics_)),
      eos_token_ids_(context.options.eos_token_ids),
      system_fingerprint_("beryl-" + context.options.version),
      started_(unix_seconds()),
      random_state_(random_start()) {
  BERYL_ASSERT(!context.options.served_model_names.empty(), "no served model name");
  if (eos_token_ids_.empty()) {
    eos_token_ids_ = context.chat_format.control_tokens().default_stop_ids();
  }
}

http::Response Handlers::fail(const Error& error) const {
  const bool retry = error.code == ErrorCode::kQueueFull || error.code == ErrorCode::kUnavailable;
  return error_response(error, retry ? context_.engine.status().retry_after_s : 0);
}

boost::asio::awaitable<Status> Handlers::run_job(http::Exchange& exchange,
                                                 const std::function<Status()>& job) {
  if (exchange.request().body.size() <= kInlineBodyBytes) co_return job();
  Status result;
  const Status ran = co_await exchange.worker_pool().run([&] { result = job(); });
  co_return ran ? result : ran;
}

boost::asio::awaitable<Status> Handlers::prepare_media(http::Exchange& exchange,
                                                       const MediaRequest& request,
                                                       std::vector<text::ChatMessage>& messages,
                                                       PreparedMedia& prepared) {
  const auto model = model_facts();
  const size_t max_tokens = model ? model->max_model_len : SIZE_MAX;
  const auto gone = std::make_shared<std::atomic<bool>>(false);
  exchange.on_disconnect([gone] { *gone = true; });
  const media::StopCondition stop{http::Clock::now() + context_.options.media.timeout, gone.get()};
  Status result;
  const Status ran = co_await exchange.slow_worker_pool().run([&] {
    auto media =
        PreparedMedia::prepare(media_loader_, request, max_tokens, stop, media_metrics_, messages);
    if (media) {
      prepared = std::move(*media);
    } else {
      result = std::move(media).error();
    }
  });
  if (*gone) co_return Error{ErrorCode::kCancelled, "The client has gone.", {}, {}};
  co_return ran ? result : ran;
}

Status Handlers::parse_body(const http::Request& request, JsonDocument& document) const {
  if (const auto type = request.header("content-type")) {
    const std::string_view media = type->substr(0, type->find(';'));
    const bool is_json = media.find("json") != std::string_view::npos;
    if (!is_json) {
      return Error{
          ErrorCode::kUnsupportedMediaType, "The Content-Type must be application/json.", {}, {}};
    }
  }
  if (Status status = document.parse(request.body); !status) return status;
  if (!document.root().is(Json::Kind::kObject)) {
    return base::invalid_argument({}, "The request body must be a JSON object.");
  }
  return Status::ok();
}

Status Handlers::check_model(std::string_view name) const {
  const auto& served = context_.options.served_model_names;
  if (name.empty() || std::find(served.begin(), served.end(), name) != served.end()) {
    return Status::ok();
  }
  return Error{ErrorCode::kNotFound,
               fmt::format("This model is not served here. Served: {}.", served.front()), "model",
               "model_not_found"};
}

Status Handlers::fit_to_context(GenerationFields& fields, size_t num_prompt_tokens,
                                const cluster::ModelFacts& model, const char* param) const {
  const size_t max_len = model.max_model_len;
  // Text completions with max_tokens 0 still compute the prompt, which the engine does with one.
  const uint64_t wanted = fields.max_tokens.value_or(1);
  if (num_prompt_tokens + std::max<uint64_t>(wanted, 1) > max_len) {
    const bool prompt_alone = num_prompt_tokens + 1 > max_len;
    return Error{
        ErrorCode::kInvalidArgument,
        fmt::format("The context of this model is {} tokens, but the prompt has {} tokens and {} "
                    "are asked for as output.",
                    max_len, num_prompt_tokens, std::max<uint64_t>(wanted, 1)),
        prompt_alone ? param : "max_tokens", "context_length_exceeded"};
  }
  if (!fields.max_tokens) fields.max_tokens = static_cast<uint32_t>(max_len - num_prompt_tokens);
  if (fields.sampling.min_tokens > *fields.max_tokens) {
    return base::invalid_argument("min_tokens",
                                  fmt::format("min_tokens ({}) is more than the {} tokens left.",
                                              fields.sampling.min_tokens, *fields.max_tokens));
  }
  return Status::ok();
}

std::vector<cluster::GenerationRequest> Handlers::make_requests(
    const GenerationFields& fields, const std::vector<int32_t>& prompt,
    const std::vector<media::PlacedImage>& media) const {
  cluster::GenerationRequest request;
  request.prompt_token_ids = prompt;
  request.media = media;
  request.sampling = fields.sampling;
  request.max_tokens = std::max<uint32_t>(*fields.max_tokens, 1);
  if (!fields.ignore_eos) request.stop_token_ids = eos_token_ids_;
  request.stop_token_ids.insert(request.stop_token_ids.end(), fields.stop_token_ids.begin(),
                                fields.stop_token_ids.end());
  request.deadline = http::Clock::now() + context_.options.request_timeout;
  request.priority = fields.priority;
  std::vector<cluster::GenerationRequest> requests(fields.num_choices, request);
  for (uint32_t i = 0; i < fields.num_choices; ++i) requests[i].sampling.choice = i;
  return requests;
}

void Handlers::log_unknown_fields(const Json& body) {
  for (const std::string_view name : unknown_fields(body)) {
    const std::lock_guard lock(unknown_mutex_);
    if (unknown_logged_.size() >= kMaxUnknownLogged || unknown_logged_.contains(name)) continue;
    unknown_logged_.emplace(name);
    constexpr size_t kMaxNameBytes = 64;
    context_.logger.info("request field '{}' is not known here and ignored (said once)",
                         is_short_and_plain(name, kMaxNameBytes) ? name : "?");
  }
}

Status Handlers::read_request_id(const Json& body, std::string& request_id) const {
  std::string given;
  if (Status status = read_string(body, "request_id", given); !status) return status;
  if (is_short_and_plain(given, kMaxRequestIdBytes)) request_id = std::move(given);
  return Status::ok();
}

void Handlers::count_request(const GenerationFields& fields) const {
  context_.metrics.api().params_n.observe(fields.num_choices);
  context_.metrics.api().params_max_tokens.observe(fields.max_tokens.value_or(0));
}

uint64_t Handlers::next_random() {
  constexpr uint64_t kStep = 0x9e3779b97f4a7c15U;
  return mix(random_state_.fetch_add(kStep, std::memory_order_relaxed));
}

ResponseHeader Handlers::make_header(std::string_view id_prefix, std::string_view object) {
  return {.id = fmt::format("{}{:016x}{:08x}", id_prefix, next_random(), next_random() >> 32),
          .object = object,
          .created = unix_seconds(),
          .model = context_.options.served_model_names.front(),
          .system_fingerprint = system_fingerprint_};
}

}  // namespace beryl::api
