#include "coordinator/api/generation_config.h"

#include <fmt/format.h>

#include <fstream>
#include <iterator>

#include "coordinator/api/json.h"

namespace beryl::api {
namespace {

using Kind = Json::Kind;

constexpr size_t kMaxFileBytes = size_t{1} << 20;

bool read_float(const Json& root, std::string_view name, std::optional<float>& out) {
  const Json* value = root.find_set(name);
  if (value == nullptr) return true;
  if (!value->is(Kind::kNumber) || !(value->number >= 0 && value->number <= 1e6)) return false;
  out = static_cast<float>(value->number);
  return true;
}

bool read_top_k(const Json& root, std::optional<uint32_t>& out) {
  const Json* value = root.find_set("top_k");
  if (value == nullptr) return true;
  if (!value->is_integer || value->integer < 0 || value->integer > INT32_MAX) return false;
  out = static_cast<uint32_t>(value->integer);
  return true;
}

bool read_eos(const Json& root, std::vector<int32_t>& out) {
  const Json* value = root.find_set("eos_token_id");
  if (value == nullptr) return true;
  const auto push = [&out](const Json& id) {
    if (!id.is_integer || id.integer < 0 || id.integer > INT32_MAX) return false;
    out.push_back(static_cast<int32_t>(id.integer));
    return true;
  };
  if (!value->is(Kind::kArray)) return push(*value);
  for (const Json& id : value->children) {
    if (!push(id)) return false;
  }
  return true;
}

}  // namespace

SamplingDefaults merge(const SamplingDefaults& over, const SamplingDefaults& under) {
  const auto either = [](const auto& first, const auto& second) { return first ? first : second; };
  return {.temperature = either(over.temperature, under.temperature),
          .top_p = either(over.top_p, under.top_p),
          .min_p = either(over.min_p, under.min_p),
          .repetition_penalty = either(over.repetition_penalty, under.repetition_penalty),
          .top_k = either(over.top_k, under.top_k)};
}

base::Expected<GenerationConfig> load_generation_config(const std::string& model_dir) {
  const std::string path = model_dir + "/generation_config.json";
  std::ifstream file(path, std::ios::binary);
  if (!file) return GenerationConfig{};
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto bad = [&path](std::string_view what) {
    return base::invalid_argument(path, fmt::format("{}: {}", path, what));
  };
  if (text.size() > kMaxFileBytes) return bad("larger than 1 MiB");
  JsonDocument document;
  if (base::Status status = document.parse(text); !status) return bad("not valid JSON");
  const Json& root = document.root();
  if (!root.is(Kind::kObject)) return bad("not an object");
  GenerationConfig config;
  if (!read_float(root, "temperature", config.sampling.temperature)) return bad("bad temperature");
  if (!read_float(root, "top_p", config.sampling.top_p)) return bad("bad top_p");
  if (!read_float(root, "min_p", config.sampling.min_p)) return bad("bad min_p");
  if (!read_float(root, "repetition_penalty", config.sampling.repetition_penalty)) {
    return bad("bad repetition_penalty");
  }
  if (!read_top_k(root, config.sampling.top_k)) return bad("bad top_k");
  if (!read_eos(root, config.eos_token_ids)) return bad("bad eos_token_id");
  return config;
}

}  // namespace beryl::api
