#include "worker/weights/checkpoint.h"

#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "parallel/base/printable.h"
#include "worker/weights/load_error.h"

namespace beryl::weights {

using base::printable;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

// Tensor name -> shard file name, from the index.
using WeightMap = std::map<std::string, std::string, std::less<>>;

void check_shard_name(const std::string& index, const std::string& tensor,
                      const std::string& shard) {
  if (shard.empty() || shard.size() > 255 || shard.find_first_of("/\\") != std::string::npos ||
      shard.find('\0') != std::string::npos || shard.find("..") != std::string::npos) {
    throw LoadError(fmt::format("{}: tensor \"{}\": expected a plain file name, found \"{}\"",
                                index, printable(tensor), printable(shard)));
  }
}

json parse_index(const fs::path& path) {
  std::error_code error;
  const auto size = fs::file_size(path, error);
  if (error || size > kMaxIndexBytes) {
    throw LoadError(fmt::format("{}: expected a file of at most {} bytes, found {}", path.string(),
                                kMaxIndexBytes, error ? error.message() : std::to_string(size)));
  }
  std::ifstream in(path, std::ios::binary);
  // A callback sees every key, so duplicates inside weight_map are noticed.
  std::set<std::string> seen;
  const auto check_key = [&](int depth, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::key && depth == 2 &&
        !seen.insert(parsed.get<std::string>()).second) {
      throw LoadError(fmt::format("{}: tensor \"{}\": expected each name once, found a duplicate",
                                  path.string(), printable(parsed.get<std::string>())));
    }
    return true;
  };
  json index = json::parse(in, check_key, /*allow_exceptions=*/false);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    throw LoadError(fmt::format("{}: expected a JSON object with weight_map, found {}",
                                path.string(), index.is_object() ? "none" : "no object"));
  }
  return index;
}

WeightMap read_index(const fs::path& path) {
  const json index = parse_index(path);
  WeightMap map;
  for (const auto& [name, shard] : index["weight_map"].items()) {
    if (!shard.is_string()) {
      throw LoadError(fmt::format("{}: tensor \"{}\": expected a file name, found {}",
                                  path.string(), printable(name), shard.type_name()));
    }
    check_shard_name(path.string(), name, shard.get<std::string>());
    map.emplace(name, shard.get<std::string>());
  }
  return map;
}

// Each tensor of the index is in the shard it names, and the shards hold nothing else.
void check_against_index(const WeightMap& map, const SafetensorsFile& file, const fs::path& index) {
  const std::string shard = file.path().filename().string();
  for (const auto& entry : file.tensors()) {
    const auto it = map.find(entry.first);
    if (it != map.end() && it->second == shard) continue;
    throw LoadError(fmt::format("{}: tensor \"{}\": expected in {} (by {}), found in {}",
                                file.path().string(), printable(entry.first),
                                it == map.end() ? "no shard" : printable(it->second),
                                index.filename().string(), printable(shard)));
  }
  for (const auto& [name, owner] : map) {
    if (owner == shard && !file.tensors().contains(name)) {
      throw LoadError(fmt::format("{}: tensor \"{}\": expected (by {}), found none",
                                  file.path().string(), printable(name),
                                  index.filename().string()));
    }
  }
}

}  // namespace

SafetensorsFile::SafetensorsFile(const fs::path& path)
    : path_(path),
      mapping_(path),
      tensors_(parse_safetensors_header(mapping_.bytes(), mapping_.bytes().size(), path.string())) {
}

Checkpoint Checkpoint::open(const fs::path& directory) {
  Checkpoint checkpoint;
  const fs::path single = directory / "model.safetensors";
  const fs::path index = directory / "model.safetensors.index.json";
  if (fs::exists(index)) {
    checkpoint.path_ = index;
    const WeightMap map = read_index(index);
    std::set<std::string> shards;
    for (const auto& entry : map) shards.insert(entry.second);
    if (shards.size() > kMaxShards) {
      throw LoadError(fmt::format("{}: expected at most {} shards, found {}", index.string(),
                                  kMaxShards, shards.size()));
    }
    checkpoint.files_.reserve(shards.size());
    for (const std::string& shard : shards) {
      checkpoint.files_.emplace_back(directory / shard);
      check_against_index(map, checkpoint.files_.back(), index);
    }
  } else if (fs::exists(single)) {
    checkpoint.path_ = single;
    checkpoint.files_.emplace_back(single);
  } else {
    throw LoadError(
        fmt::format("{}: expected model.safetensors or model.safetensors.index.json, found neither",
                    directory.string()));
  }
  for (const SafetensorsFile& file : checkpoint.files_) {
    for (const auto& [name, tensor] : file.tensors()) {
      checkpoint.tensors_.emplace(name, FoundTensor{&file, &tensor});
    }
  }
  return checkpoint;
}

FoundTensor Checkpoint::find(std::string_view name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? FoundTensor{} : it->second;
}

}  // namespace beryl::weights
