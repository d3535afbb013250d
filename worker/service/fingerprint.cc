#include "worker/service/fingerprint.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace beryl::service {
namespace {

namespace fs = std::filesystem;

constexpr size_t kSampleBytes = 4096;
constexpr size_t kNumSamples = 64;  // evenly spaced, the first one covers the header's start

class Hash {
 public:
  Hash() { XXH3_64bits_reset(&state_); }
  void add(const std::string& text) { XXH3_64bits_update(&state_, text.data(), text.size()); }
  uint64_t value() const { return XXH3_64bits_digest(&state_); }

 private:
  XXH3_state_t state_;
};

void add_samples(const fs::path& path, Hash& hash) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(fmt::format("cannot read {}", path.string()));
  const uint64_t size = fs::file_size(path);
  hash.add(fmt::format("{}:{};", path.filename().string(), size));
  std::string sample(kSampleBytes, '\0');
  for (size_t i = 0; i < kNumSamples; ++i) {
    file.clear();
    file.seekg(static_cast<std::streamoff>(size / kNumSamples * i));
    file.read(sample.data(), static_cast<std::streamsize>(sample.size()));
    hash.add(sample.substr(0, static_cast<size_t>(file.gcount())));
  }
}

}  // namespace

uint64_t model_fingerprint(const WorkerOptions& options) {
  const fs::path directory(options.model_dir);
  Hash hash;
  add_samples(directory / "config.json", hash);
  if (options.load_format == "dummy") {
    hash.add(fmt::format("dummy:{}:{}", options.seed, options.dummy_post_norm));
    return hash.value();
  }
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("model") && name.ends_with(".safetensors")) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) add_samples(file, hash);
  return hash.value();
}

}  // namespace beryl::service
