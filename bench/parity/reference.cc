#include "bench/parity/reference.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <stdexcept>

#include "worker/weights/checkpoint.h"
#include "worker/weights/load_error.h"

namespace beryl::bench {

using nlohmann::json;
using weights::SafetensorsFile;
using weights::StoredTensor;

namespace {

class ExpectedReader {
 public:
  ExpectedReader(const SafetensorsFile& file, const model::ModelConfig& config)
      : file_(file), config_(config) {}

  void read_full(ReferenceCase* out) const;
  void read_sampled(ReferenceCase* out) const;

 private:
  const StoredTensor& find(const std::string& name) const {
    const auto it = file_.tensors().find(name);
    if (it == file_.tensors().end()) {
      throw weights::LoadError(
          fmt::format("{}: tensor \"{}\": expected, found none", file_.path().string(), name));
    }
    return it->second;
  }

  // The values of an F32, I32 or I16 tensor of the given size.
  template <typename T>
  std::vector<T> read(const std::string& name, size_t num_elements) const {
    const StoredTensor& tensor = find(name);
    const std::byte* data = file_.data(tensor).data();
    const size_t width = tensor.dtype == "I16" ? 2 : 4;
    const bool fits = std::is_same_v<T, float> ? tensor.dtype == "F32"
                                               : tensor.dtype == "I32" || tensor.dtype == "I16";
    if (!fits || tensor.num_bytes != num_elements * width) {
      throw weights::LoadError(fmt::format("{}: tensor \"{}\": expected {} numbers, found {}",
                                           file_.path().string(), name, num_elements,
                                           weights::describe(tensor.dtype, tensor.shape)));
    }
    std::vector<T> values(num_elements);
    if (width == sizeof(T)) {
      if (num_elements > 0) std::memcpy(values.data(), data, tensor.num_bytes);
      return values;
    }
    std::vector<int16_t> narrow(num_elements);
    if (num_elements > 0) std::memcpy(narrow.data(), data, tensor.num_bytes);
    std::copy(narrow.begin(), narrow.end(), values.begin());
    return values;
  }

  void read_routing(ReferenceCase* out) const {
    const size_t count = static_cast<size_t>(config_.num_hidden_layers) * out->positions.size() *
                         static_cast<size_t>(config_.top_k_experts);
    out->topk_idx = read<int32_t>(out->name + ".topk_idx", count);
    out->topk_weights = read<float>(out->name + ".topk_weights", count);
  }

  size_t hidden_count(const ReferenceCase& out) const {
    return static_cast<size_t>(config_.num_hidden_layers + 1) * out.hidden_positions.size() *
           static_cast<size_t>(config_.hidden_size);
  }

  const SafetensorsFile& file_;
  const model::ModelConfig& config_;
};

void ExpectedReader::read_full(ReferenceCase* out) const {
  out->positions.resize(out->input_ids.size());
  std::iota(out->positions.begin(), out->positions.end(), 0);
  out->hidden_positions = out->positions;
  out->logits = read<float>(out->name + ".logits",
                            out->positions.size() * static_cast<size_t>(config_.vocab_size));
  out->hidden = read<float>(out->name + ".hidden", hidden_count(*out));
  read_routing(out);
}

void ExpectedReader::read_sampled(ReferenceCase* out) const {
  constexpr size_t kMaxHiddenPositions = 2;
  const size_t rows = out->positions.size();
  const auto columns = [&](const char* what) {
    const StoredTensor& tensor = find(fmt::format("{}.{}", out->name, what));
    return tensor.shape.empty() ? 0 : static_cast<int>(tensor.shape.back());
  };
  out->hidden_positions.assign(
      out->positions.end() - static_cast<ptrdiff_t>(std::min(kMaxHiddenPositions, rows)),
      out->positions.end());
  out->num_top = columns("top_logits");
  out->num_sampled = columns("every256");
  out->top_logits =
      read<float>(out->name + ".top_logits", rows * static_cast<size_t>(out->num_top));
  out->top_ids = read<int32_t>(out->name + ".top_ids", rows * static_cast<size_t>(out->num_top));
  out->logsumexp = read<float>(out->name + ".logsumexp", rows);
  out->sampled_logits =
      read<float>(out->name + ".every256", rows * static_cast<size_t>(out->num_sampled));
  out->hidden = read<float>(out->name + ".hidden_last2", hidden_count(*out));
  read_routing(out);
}

json read_json(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  json root = json::parse(in, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object() || !root.contains("cases")) {
    throw std::runtime_error(
        fmt::format("{}: expected a JSON object with \"cases\"", path.string()));
  }
  return root;
}

ReferenceCase read_case(const std::string& name, const json& entry) {
  ReferenceCase out;
  out.name = name;
  out.has_media = (entry.contains("images") && !entry.at("images").empty()) ||
                  (entry.contains("frames") && !entry.at("frames").empty());
  if (out.has_media) return out;
  out.input_ids = entry.at("input_ids").get<std::vector<int32_t>>();
  out.positions = entry.value("positions", std::vector<int32_t>{});
  out.greedy = entry.value("greedy", std::vector<int32_t>{});
  out.greedy_margin = entry.value("greedy_margin", std::vector<float>{});
  return out;
}

// Both formats as one list.
std::vector<ReferenceCase> read_cases(const json& root) {
  std::vector<ReferenceCase> cases;
  if (root.at("cases").is_array()) {
    for (const json& entry : root.at("cases")) {
      cases.push_back(read_case(entry.at("case").get<std::string>(), entry));
    }
    return cases;
  }
  for (const auto& [name, entry] : root.at("cases").items()) {
    ReferenceCase one = read_case(name, entry);
    if (name == "short") {  // the only one with a continuation, recorded at the top
      one.greedy = root.value("greedy", std::vector<int32_t>{});
      one.greedy_margin = root.value("greedy_margin", std::vector<float>{});
    }
    cases.push_back(std::move(one));
  }
  return cases;
}

void check_ids(const std::string& file, const ReferenceCase& one, int vocab_size) {
  const auto is_valid = [&](int32_t id) { return id >= 0 && id < vocab_size; };
  const auto is_row = [&](int32_t p) {
    return p >= 0 && p < static_cast<int32_t>(one.input_ids.size());
  };
  const bool valid = !one.input_ids.empty() && one.greedy.size() == one.greedy_margin.size() &&
                     std::all_of(one.input_ids.begin(), one.input_ids.end(), is_valid) &&
                     std::all_of(one.greedy.begin(), one.greedy.end(), is_valid) &&
                     std::all_of(one.positions.begin(), one.positions.end(), is_row) &&
                     std::is_sorted(one.positions.begin(), one.positions.end());
  if (!valid) {
    throw std::runtime_error(
        fmt::format("{}: case \"{}\": ids, positions or margins are not valid", file, one.name));
  }
}

}  // namespace

Reference load_reference(const std::filesystem::path& directory, const model::ModelConfig& config,
                         const std::vector<std::string>& selection) {
  const std::filesystem::path cases_path = directory / "cases.json";
  const json root = read_json(cases_path);
  Reference reference;
  reference.dummy.seed = root.value("seed", uint64_t{0});
  reference.dummy.post_norm = root.value("post_norm", weights::kDefaultPostNorm);
  const bool is_full = root.at("cases").is_array();
  const SafetensorsFile expected(directory / "expected.safetensors");
  const ExpectedReader reader(expected, config);
  std::vector<std::string> missing = selection;
  for (ReferenceCase& one : read_cases(root)) {
    const auto it = std::find(missing.begin(), missing.end(), one.name);
    if (!selection.empty() && it == missing.end()) continue;
    if (it != missing.end()) missing.erase(it);
    if (!one.has_media) {
      check_ids(cases_path.string(), one, config.vocab_size);
      is_full ? reader.read_full(&one) : reader.read_sampled(&one);
    }
    reference.cases.push_back(std::move(one));
  }
  if (!missing.empty()) {
    throw std::runtime_error(
        fmt::format("{}: no case named \"{}\"", cases_path.string(), missing.front()));
  }
  return reference;
}

}  // namespace beryl::bench
