// POST /v1/completions.
#include <utility>

#include "coordinator/api/completion_output.h"
#include "coordinator/api/completion_request.h"
#include "coordinator/api/handlers.h"

namespace beryl::api {

using base::Status;

struct Handlers::CompletionJob {
  CompletionRequest request;
  std::vector<std::vector<int32_t>> prompts;
  std::vector<cluster::GenerationRequest> requests;  // prompt after prompt, n for each
  std::string request_id;
};

Handlers::Result Handlers::completions(http::Exchange& exchange) {
  CompletionJob job;
  const Status prepared = co_await run_job(
      exchange, [this, &exchange, &job] { return prepare_completion(exchange.request(), job); });
  if (!prepared) co_return fail(prepared.error());
  if (!job.request_id.empty()) exchange.request().request_id = job.request_id;
  count_request(job.request.fields);
  if (job.request.fields.stream) co_return co_await stream_completion(exchange, job);
  co_return co_await answer_completion(exchange, job);
}

Status Handlers::prepare_completion(const http::Request& request, CompletionJob& job) {
  JsonDocument document;
  if (Status status = parse_body(request, document); !status) return status;
  const auto model = model_facts();
  if (!model) return model.error();
  const FieldContext context{context_.options, *model, next_random()};
  auto parsed = parse_completion_request(document.root(), context);
  if (!parsed) return parsed.error();
  job.request = std::move(*parsed);
  GenerationFields& fields = job.request.fields;
  if (Status status = check_model(fields.model); !status) return status;
  if (Status status = read_request_id(document.root(), job.request_id); !status) return status;
  log_unknown_fields(document.root());
  for (Prompt& prompt : job.request.prompts) {
    auto ids = encode_prompt(prompt, job.request.add_special_tokens);
    if (!ids) return ids.error();
    GenerationFields own = fields;  // what is left of the context differs by prompt
    if (Status status = fit_to_context(own, ids->size(), *model, "prompt"); !status) return status;
    auto requests = make_requests(own, *ids);
    std::move(requests.begin(), requests.end(), std::back_inserter(job.requests));
    job.prompts.push_back(std::move(*ids));
  }
  return Status::ok();
}

base::Expected<std::vector<int32_t>> Handlers::encode_prompt(Prompt& prompt,
                                                             bool add_special_tokens) const {
  if (auto* ids = std::get_if<std::vector<int32_t>>(&prompt)) return std::move(*ids);
  auto encoded = context_.tokenizer.encode(std::get<std::string>(prompt));
  if (!encoded) return encoded.error();
  if (add_special_tokens) {
    encoded->insert(encoded->begin(), context_.chat_format.control_tokens().bos);
  }
  if (encoded->empty()) return base::invalid_argument("prompt", "prompt has no tokens.");
  return encoded;
}

Handlers::Result Handlers::answer_completion(http::Exchange& exchange, CompletionJob& job) {
  CompletionWholeOutput output({.request = job.request,
                                .prompts = job.prompts,
                                .header = make_header("cmpl-", "text_completion"),
                                .tokenizer = context_.tokenizer});
  GenerationSession session(context_, exchange, output);
  if (Status status = session.submit(std::move(job.requests)); !status) {
    co_return fail(status.error());
  }
  if (const Status status = co_await session.run(); !status) co_return fail(status.error());
  http::Response response;
  response.body = output.body();
  co_return response;
}

Handlers::Result Handlers::stream_completion(http::Exchange& exchange, CompletionJob& job) {
  http::SseStream& stream = exchange.start_stream({});
  CompletionStreamOutput output({.request = job.request,
                                 .prompts = job.prompts,
                                 .header = make_header("cmpl-", "text_completion"),
                                 .tokenizer = context_.tokenizer},
                                stream.buffer());
  GenerationSession session(context_, exchange, output);
  if (Status status = session.submit(std::move(job.requests)); !status) {
    co_return fail(status.error());
  }
  session.attach(stream);
  stream.flush();
  const Status status = co_await session.run();
  if (status) output.end();
  co_return end_stream(stream, status, output.num_events());
}

}  // namespace beryl::api
