// The fields that chat and text completions share: sampling, stops, streaming. One table holds the
// numeric ones.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/api/json.h"
#include "coordinator/api/options.h"
#include "coordinator/cluster/engine.h"
#include "coordinator/scheduler/request.h"
#include "parallel/base/expected.h"

namespace beryl::api {

enum class Endpoint { kChat, kCompletions, kBoth };

// null is taken as absent in all of them.
struct NumericField {
  std::string_view name;
  Endpoint endpoint = Endpoint::kBoth;
  bool is_integer = false;
  double min = 0;
  double max = 0;
  bool excludes_min = false;
};

std::span<const NumericField> numeric_fields();

struct GenerationFields {
  std::string model;  // as named by the client; may be empty
  scheduler::SamplingParams sampling;
  uint32_t num_choices = 1;
  std::optional<uint32_t> max_tokens;
  std::optional<uint32_t> top_logprobs;  // chat: top_logprobs; completions: logprobs
  std::optional<uint32_t> prompt_logprobs;
  std::vector<std::string> stops;
  std::vector<int32_t> stop_token_ids;
  bool include_stop_str_in_output = false;
  bool ignore_eos = false;
  bool skip_special_tokens = true;
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage_stats = false;
  bool return_token_ids = false;
  int32_t priority = 0;
};

struct FieldContext {
  const ServerOptions& options;
  const cluster::ModelFacts& model;
  uint64_t random_seed = 0;  // where the request names none
};

// Reads all shared fields and those numeric ones of `endpoint`; checks ranges, ids and limits.
base::Expected<GenerationFields> parse_generation_fields(const Json& body, Endpoint endpoint,
                                                         const FieldContext& context);

// 501 for what is known and not served yet, 400 for what is refused on purpose.
base::Status check_unsupported_fields(const Json& body);

// Small readers that name the field in their errors; absent and null leave `out` alone.
base::Status read_bool(const Json& body, std::string_view name, bool& out);
base::Status read_string(const Json& body, std::string_view name, std::string& out);
base::Error wrong_type(std::string_view param, std::string_view wanted, const Json& value);

// Names of the members of `body` that this server does not know.
std::vector<std::string_view> unknown_fields(const Json& body);

}  // namespace beryl::api
