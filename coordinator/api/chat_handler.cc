// POST /v1/chat/completions.
#include <fmt/format.h>

#include <utility>

#include "coordinator/api/chat_output.h"
#include "coordinator/api/chat_request.h"
#include "coordinator/api/handlers.h"

namespace beryl::api {

using base::ErrorCode;
using base::Status;

// What is made of the body before anything is submitted.
struct Handlers::ChatJob {
  JsonDocument document;  // URLs of media point into it
  ChatRequest request;
  cluster::ModelFacts model;
  PreparedMedia prepared;
  std::vector<int32_t> prompt;
  std::vector<media::PlacedImage> media;
  size_t num_image_tokens = 0;
  size_t num_video_tokens = 0;
  bool starts_in_reasoning = false;
  std::string request_id;  // of the client, if given
};

Handlers::Result Handlers::chat_completions(http::Exchange& exchange) {
  ChatJob job;
  Status status = co_await run_job(
      exchange, [this, &exchange, &job] { return parse_chat(exchange.request(), job); });
  if (!status) co_return fail(status.error());
  if (!job.request.media.parts.empty()) {
    status =
        co_await prepare_media(exchange, job.request.media, job.request.messages, job.prepared);
    if (!status) co_return fail(status.error());
    status = co_await run_job(exchange, [this, &job] { return render_chat(job); });
    if (!status) co_return fail(status.error());
  }
  if (!job.request_id.empty()) exchange.request().request_id = job.request_id;
  count_request(job.request.fields);
  if (job.request.fields.stream) co_return co_await stream_chat(exchange, job);
  co_return co_await answer_chat(exchange, job);
}

Status Handlers::parse_chat(const http::Request& request, ChatJob& job) {
  if (Status status = parse_body(request, job.document); !status) return status;
  const Json& body = job.document.root();
  const auto model = model_facts();
  if (!model) return model.error();
  job.model = *model;
  const FieldContext fields{context_.options, job.model, next_random()};
  auto parsed = parse_chat_request(body, fields);
  if (!parsed) return parsed.error();
  job.request = std::move(*parsed);
  if (Status status = check_model(job.request.fields.model); !status) return status;
  if (Status status = read_request_id(body, job.request_id); !status) return status;
  log_unknown_fields(body);
  const std::vector<MediaPart>& media = job.request.media.parts;
  if (media.empty()) return render_chat(job);
  if (!job.model.accepts_media) {
    return base::Error{ErrorCode::kNotImplemented,
                       "The workers of this server read text only.",
                       media.front().param,
                       {}};
  }
  return Status::ok();
}

Status Handlers::render_chat(ChatJob& job) const {
  auto rendered =
      context_.chat_format.render(job.request.messages, job.request.tools, job.request.options);
  if (!rendered) return rendered.error();
  job.media = job.prepared.place(*rendered);
  job.num_image_tokens = count_soft_tokens(*rendered, text::PartKind::kImage, job.media);
  job.num_video_tokens = count_soft_tokens(*rendered, text::PartKind::kVideo, job.media);
  job.prompt = std::move(rendered->ids);
  job.starts_in_reasoning = rendered->starts_in_reasoning;
  return fit_to_context(job.request.fields, job.prompt.size(), job.model, "messages");
}

ChatOutputContext Handlers::chat_output_context(const ChatJob& job, std::string_view object) {
  return {.request = job.request,
          .prompt_token_ids = job.prompt,
          .num_image_tokens = job.num_image_tokens,
          .num_video_tokens = job.num_video_tokens,
          .starts_in_reasoning = job.starts_in_reasoning,
          .header = make_header("chatcmpl-", object),
          .tokenizer = context_.tokenizer,
          .control = context_.chat_format.control_tokens(),
          .reasoning_field = context_.options.reasoning_field,
          .call_id_prefix = fmt::format("call_{:016x}", next_random())};
}

Handlers::Result Handlers::answer_chat(http::Exchange& exchange, ChatJob& job) {
  ChatWholeOutput output(chat_output_context(job, "chat.completion"));
  GenerationSession session(context_, exchange, output);
  if (Status status = session.submit(make_requests(job.request.fields, job.prompt, job.media));
      !status) {
    co_return fail(status.error());
  }
  if (const Status status = co_await session.run(); !status) co_return fail(status.error());
  http::Response response;
  response.body = output.body();
  co_return response;
}

Handlers::Result Handlers::stream_chat(http::Exchange& exchange, ChatJob& job) {
  http::SseStream& stream = exchange.start_stream({});
  ChatStreamOutput output(chat_output_context(job, "chat.completion.chunk"), stream.buffer());
  GenerationSession session(context_, exchange, output);
  if (Status status = session.submit(make_requests(job.request.fields, job.prompt, job.media));
      !status) {
    co_return fail(status.error());
  }
  session.attach(stream);
  output.begin();
  stream.flush();
  const Status status = co_await session.run();
  if (status) output.end();
  co_return end_stream(stream, status, output.num_events());
}

http::Response Handlers::end_stream(http::SseStream& stream, const Status& status,
                                    uint64_t num_events) const {
  http::Response response;
  response.streamed = true;
  context_.metrics.api().sse_events.add(num_events);
  if (!status) {
    response.close = true;
    if (status.error().code != ErrorCode::kCancelled) stream.buffer() += sse_error(status.error());
  }
  return response;
}

}  // namespace beryl::api
