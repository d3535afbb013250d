// Checkpoint: the safetensors files of a model directory as one set of named tensors, memory
// mapped. Either model.safetensors, or shards named by model.safetensors.index.json.
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "worker/weights/mapped_file.h"
#include "worker/weights/safetensors_header.h"

namespace beryl::weights {

constexpr size_t kMaxIndexBytes = 64u << 20;
constexpr size_t kMaxShards = 10'000;

// One safetensors file. Opening reads the header only.
class SafetensorsFile {
 public:
  // Throws LoadError.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const TensorMap& tensors() const { return tensors_; }
  std::span<const std::byte> data(const StoredTensor& tensor) const {
    return mapping_.bytes().subspan(tensor.offset, tensor.num_bytes);
  }
  // As MappedFile::read, for an address within it.
  bool read(const std::byte* from, std::byte* to, size_t num_bytes) const noexcept {
    return mapping_.read(static_cast<size_t>(from - mapping_.bytes().data()), to, num_bytes);
  }

 private:
  std::filesystem::path path_;
  MappedFile mapping_;
  TensorMap tensors_;
};

// A tensor found in a checkpoint; lives as long as the Checkpoint.
struct FoundTensor {
  const SafetensorsFile* file = nullptr;
  const StoredTensor* tensor = nullptr;
  std::span<const std::byte> data() const { return file->data(*tensor); }
};

class Checkpoint {
 public:
  // Throws LoadError; every shard's header is checked against the index.
  static Checkpoint open(const std::filesystem::path& directory);

  // file == nullptr where there is no such tensor.
  FoundTensor find(std::string_view name) const;

  const std::map<std::string, FoundTensor, std::less<>>& tensors() const { return tensors_; }
  // What people should look at when a tensor is missing: the file or the index.
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, FoundTensor, std::less<>> tensors_;
};

}  // namespace beryl::weights
