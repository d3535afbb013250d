// What the server says about itself: models, health, version, metrics, cluster.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "coordinator/api/handlers.h"
#include "coordinator/api/json_writer.h"

namespace beryl::api {

using base::Error;
using base::ErrorCode;
using cluster::EngineState;

namespace {

std::string_view state_name(EngineState state) {
  switch (state) {
    case EngineState::kStarting:
      return "starting";
    case EngineState::kReady:
      return "ready";
    case EngineState::kDegraded:
      return "degraded";
    case EngineState::kDraining:
      return "draining";
  }
  return "unknown";
}

http::Response health_response(bool healthy, std::string_view state) {
  http::Response response;
  response.status = healthy ? 200 : 503;
  response.body = fmt::format("{{\"status\":\"{}\"}}", state);
  if (!healthy) response.headers.emplace_back("Retry-After", "1");
  return response;
}

void append_model(std::string_view name, int64_t created, const cluster::ModelFacts& facts,
                  std::string& out) {
  out += "{\"id\":";
  append_string(name, out);
  fmt::format_to(std::back_inserter(out),
                 ",\"object\":\"model\",\"created\":{},\"owned_by\":\"beryl\",\"root\":", created);
  append_string(name, out);
  fmt::format_to(std::back_inserter(out),
                 ",\"parent\":null,\"max_model_len\":{},\"architecture\":{{\"input_modalities\":"
                 "[{}],\"output_modalities\":[\"text\"]}}}}",
                 facts.max_model_len,
                 facts.accepts_media ? "\"text\",\"image\",\"video\"" : "\"text\"");
}

void append_rank(const cluster::RankStatus& rank, std::string& out) {
  fmt::format_to(std::back_inserter(out), "{{\"rank\":{},\"host\":", rank.rank);
  append_lossy_string(rank.host, out);
  fmt::format_to(std::back_inserter(out), ",\"pid\":{},\"device\":", rank.pid);
  append_lossy_string(rank.device, out);
  fmt::format_to(std::back_inserter(out), ",\"last_heartbeat_ms\":{}}}", rank.last_heartbeat_ms);
}

void append_group(const cluster::GroupStatus& group, std::string& out) {
  fmt::format_to(std::back_inserter(out), "{{\"group\":{},\"epoch\":{},\"state\":", group.group,
                 group.epoch);
  append_lossy_string(group.state, out);
  fmt::format_to(std::back_inserter(out),
                 ",\"num_waiting\":{},\"num_running\":{},\"kv_usage\":{:.4f},\"steps\":{},"
                 "\"ranks\":[",
                 group.num_waiting, group.num_running, group.kv_usage, group.steps);
  for (size_t i = 0; i < group.ranks.size(); ++i) {
    if (i > 0) out += ',';
    append_rank(group.ranks[i], out);
  }
  out += "]}";
}

}  // namespace

http::Response Handlers::list_models() const {
  const auto facts = model_facts();
  if (!facts) return fail(facts.error());
  http::Response response;
  response.body = "{\"object\":\"list\",\"data\":[";
  const auto& names = context_.options.served_model_names;
  for (size_t i = 0; i < names.size(); ++i) {
    if (i > 0) response.body += ',';
    append_model(names[i], started_, *facts, response.body);
  }
  response.body += "]}";
  return response;
}

http::Response Handlers::one_model(std::string_view name) const {
  if (base::Status status = check_model(name); !status) return fail(status.error());
  const auto facts = model_facts();
  if (!facts) return fail(facts.error());
  http::Response response;
  append_model(name, started_, *facts, response.body);
  return response;
}

http::Response Handlers::live() const {
  return health_response(true, "live");
}

http::Response Handlers::ready(bool draining) const {
  const EngineState state = context_.engine.status().state;
  if (draining) return health_response(false, "draining");
  return health_response(state == EngineState::kReady, state_name(state));
}

http::Response Handlers::startup() const {
  const EngineState state = context_.engine.status().state;
  return health_response(state != EngineState::kStarting, state_name(state));
}

http::Response Handlers::version() const {
  http::Response response;
  response.body = "{\"version\":";
  append_string(context_.options.version, response.body);
  response.body += '}';
  return response;
}

http::Response Handlers::metrics() const {
  http::Response response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  response.body = context_.metrics.registry().render();
  return response;
}

http::Response Handlers::cluster_status() const {
  const cluster::EngineStatus status = context_.engine.status();
  http::Response response;
  response.body = fmt::format("{{\"state\":\"{}\",\"groups\":[", state_name(status.state));
  for (size_t i = 0; i < status.groups.size(); ++i) {
    if (i > 0) response.body += ',';
    append_group(status.groups[i], response.body);
  }
  response.body += "]}";
  return response;
}

}  // namespace beryl::api
