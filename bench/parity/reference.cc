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

  void read_full(ReferenceCase* out, bool is_video) const;
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

  // Features of picture i; its patches, where they were kept.
  void read_picture(size_t i, ReferenceCase* out) const {
    const model::VisionConfig& vision = *config_.vision;
    const std::string prefix = fmt::format("{}.image{}.", out->name, i);
    const size_t num_tokens = count_soft_tokens(out->pictures[i]);
    append(read<float>(prefix + "features", num_tokens * static_cast<size_t>(config_.hidden_size)),
           &out->features);
    if (!file_.tensors().contains(prefix + "pixels")) return;
    const auto side = static_cast<size_t>(vision.pooling_kernel_size);
    const size_t num_patches = num_tokens * side * side;
    const auto patch_size = static_cast<size_t>(vision.patch_size);
    append(read<float>(prefix + "pixels", num_patches * 3 * patch_size * patch_size),
           &out->patches);
    append(read<int32_t>(prefix + "positions", num_patches * 2), &out->patch_positions);
  }

  size_t count_soft_tokens(const media::RgbImage& picture) const {
    const auto unit = static_cast<unsigned>(config_.vision->soft_token_size());
    return size_t{picture.height / unit} * (picture.width / unit);
  }

  template <typename T>
  static void append(const std::vector<T>& values, std::vector<T>* all) {
    all->insert(all->end(), values.begin(), values.end());
  }

  size_t hidden_count(const ReferenceCase& out) const {
    return static_cast<size_t>(config_.num_hidden_layers + 1) * out.hidden_positions.size() *
           static_cast<size_t>(config_.hidden_size);
  }

  const SafetensorsFile& file_;
  const model::ModelConfig& config_;
};

// Of videos only logits were recorded.
void ExpectedReader::read_full(ReferenceCase* out, bool is_video) const {
  if (out->positions.empty()) {
    out->positions.resize(out->input_ids.size());
    std::iota(out->positions.begin(), out->positions.end(), 0);
  }
  out->logits = read<float>(out->name + ".logits",
                            out->positions.size() * static_cast<size_t>(config_.vocab_size));
  if (is_video) return;
  for (size_t i = 0; i < out->pictures.size(); ++i) read_picture(i, out);
  out->hidden_positions = out->positions;
  out->hidden = read<float>(out->name + ".hidden", hidden_count(*out));
  read_routing(out);
}

void ExpectedReader::read_sampled(ReferenceCase* out) const {
  constexpr size_t kMaxHiddenPositions = 2;
  constexpr size_t kFeatureStride = 8;
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
  if (out->pictures.empty()) return;
  size_t num_tokens = 0;
  for (const media::RgbImage& picture : out->pictures) num_tokens += count_soft_tokens(picture);
  out->feature_stride = kFeatureStride;
  const size_t num_features = (num_tokens + kFeatureStride - 1) / kFeatureStride;
  out->features =
      read<float>(out->name + ".features", num_features * static_cast<size_t>(config_.hidden_size));
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

bool has_list(const json& entry, const char* key) {
  return entry.contains(key) && !entry.at(key).empty();
}

ReferenceCase read_case(const std::string& name, const json& entry) {
  ReferenceCase out;
  out.name = name;
  out.has_media = has_list(entry, "images") || has_list(entry, "frames");
  out.input_ids = entry.at("input_ids").get<std::vector<int32_t>>();
  out.positions = entry.value("positions", std::vector<int32_t>{});
  out.greedy = entry.value("greedy", std::vector<int32_t>{});
  out.greedy_margin = entry.value("greedy_margin", std::vector<float>{});
  return out;
}

std::optional<Bf16Yardstick> read_yardstick(const json& root, const std::string& name) {
  if (!root.contains("bfloat16_yardstick")) return std::nullopt;
  const json& all = root.at("bfloat16_yardstick");
  if (!all.contains(name)) return std::nullopt;
  const json& entry = all.at(name);
  const auto flips = entry.at("expert_set_flips_by_layer").get<std::vector<double>>();
  Bf16Yardstick yardstick;
  yardstick.kl_mean = entry.at("kl_mean").get<double>();
  yardstick.logit_max = entry.at("logit_max_abs").get<double>();
  yardstick.flip_share = std::accumulate(flips.begin(), flips.end(), 0.0) /
                         std::max<double>(1, static_cast<double>(flips.size()));
  yardstick.hidden_errors = entry.at("hidden_relative_error_by_layer").get<std::vector<double>>();
  const json& feature_error = entry.at("features_relative_error");
  if (!feature_error.is_null()) yardstick.feature_error = feature_error.get<double>();
  return yardstick;
}

// Names of files, or of sizes to draw. A file without a budget has its final size already.
std::vector<media::RgbImage> read_pictures(const std::filesystem::path& directory, const json& root,
                                           const json& entry) {
  std::vector<media::RgbImage> pictures;
  for (const json& name : entry.at(has_list(entry, "frames") ? "frames" : "images")) {
    if (root.contains("image_shapes")) {
      const json& shape = root.at("image_shapes").at(name.get<std::string>());
      const auto height = shape.at("height").get<unsigned>();
      const auto width = shape.at("width").get<unsigned>();
      if (height > kMaxPictureSide || width > kMaxPictureSide) {
        throw std::runtime_error(
            fmt::format("{}: picture of {} x {} pixels", directory.string(), width, height));
      }
      pictures.push_back(draw_picture(height, width));
    } else {
      const std::filesystem::path file = directory / name.get<std::string>();
      pictures.push_back(entry.contains("max_soft_tokens")
                             ? load_resized_png(file, entry.at("max_soft_tokens").get<unsigned>())
                             : load_png(file));
    }
  }
  return pictures;
}

struct NamedCase {
  ReferenceCase one;
  const json* entry;
};

// Both formats as one list.
std::vector<NamedCase> read_cases(const json& root) {
  std::vector<NamedCase> cases;
  if (root.at("cases").is_array()) {
    for (const json& entry : root.at("cases")) {
      cases.push_back({read_case(entry.at("case").get<std::string>(), entry), &entry});
    }
    return cases;
  }
  for (const auto& [name, entry] : root.at("cases").items()) {
    ReferenceCase one = read_case(name, entry);
    one.yardstick = read_yardstick(root, name);
    if (name == "short" && root.contains("greedy")) {  // the only continuation, beside the cases
      one.greedy = root.at("greedy").get<std::vector<int32_t>>();
      one.greedy_margin = root.at("greedy_margin").get<std::vector<float>>();
    }
    cases.push_back({std::move(one), &entry});
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
  for (auto& [one, entry] : read_cases(root)) {
    const auto it = std::find(missing.begin(), missing.end(), one.name);
    if (!selection.empty() && it == missing.end()) continue;
    if (it != missing.end()) missing.erase(it);
    if (!one.has_media || config.vision) {
      check_ids(cases_path.string(), one, config.vocab_size);
      if (one.has_media) one.pictures = read_pictures(directory, root, *entry);
      is_full ? reader.read_full(&one, has_list(*entry, "frames")) : reader.read_sampled(&one);
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
