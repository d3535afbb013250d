#include "bench/checkpoint/checkpoint_writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

#include "worker/weights/dummy_weights.h"
#include "worker/weights/parallel_for.h"

namespace beryl::bench {

namespace fs = std::filesystem;
using weights::TensorSpec;

namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kChunkBytes = 8u << 20;
constexpr std::array kCopiedFiles = {"config.json",           "generation_config.json",
                                     "tokenizer.json",        "tokenizer_config.json",
                                     "processor_config.json", "chat_template.jinja"};

// A file that appears under its name only when commit() is reached.
class NewFile {
 public:
  explicit NewFile(fs::path path)
      : path_(std::move(path)),
        partial_(fs::path(path_).concat(".partial")),
        fd_(::open(partial_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) {
    if (fd_ < 0) fail("create");
  }
  ~NewFile() {
    if (fd_ >= 0) ::close(fd_);
    std::error_code ignored;
    if (!committed_) fs::remove(partial_, ignored);
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  void write(const void* data, size_t num_bytes, size_t offset) const {
    const char* bytes = static_cast<const char*>(data);
    while (num_bytes > 0) {
      const ssize_t written = ::pwrite(fd_, bytes, num_bytes, static_cast<off_t>(offset));
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) fail("write");
      bytes += written;
      offset += static_cast<size_t>(written);
      num_bytes -= static_cast<size_t>(written);
    }
  }

  void commit() {
    if (::close(std::exchange(fd_, -1)) != 0) fail("close");
    fs::rename(partial_, path_);
    committed_ = true;
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    throw std::runtime_error(
        fmt::format("{}: cannot {}: {}", partial_.string(), what, std::strerror(errno)));
  }

  fs::path path_;
  fs::path partial_;
  int fd_;
  bool committed_ = false;
};

struct Chunk {
  const TensorSpec* spec;
  const NewFile* file;
  size_t tensor_offset;  // bytes
  size_t file_offset;
  size_t num_bytes;
};

std::vector<Chunk> plan_chunks(const Shard& shard, const NewFile& file, size_t data_begin) {
  std::vector<Chunk> chunks;
  for (const TensorSpec& spec : shard.tensors) {
    for (size_t at = 0; at < spec.num_bytes(); at += kChunkBytes) {
      chunks.push_back(
          {&spec, &file, at, data_begin + at, std::min(kChunkBytes, spec.num_bytes() - at)});
    }
    data_begin += spec.num_bytes();
  }
  return chunks;
}

// The first chunk of each list, then the second of each, ...
std::vector<Chunk> in_turns(const std::vector<std::vector<Chunk>>& lists) {
  size_t longest = 0;
  for (const std::vector<Chunk>& list : lists) longest = std::max(longest, list.size());
  std::vector<Chunk> chunks;
  for (size_t i = 0; i < longest; ++i) {
    for (const std::vector<Chunk>& list : lists) {
      if (i < list.size()) chunks.push_back(list[i]);
    }
  }
  return chunks;
}

// All files at once: a file takes one write at a time.
void write_shards(const fs::path& directory, const std::vector<Shard>& shards,
                  const CheckpointOptions& options, base::Progress* progress) {
  std::vector<std::unique_ptr<NewFile>> files;
  std::vector<std::vector<Chunk>> lists;
  for (const Shard& shard : shards) {
    files.push_back(std::make_unique<NewFile>(directory / shard.file));
    const std::string header = shard_header(shard);
    files.back()->write(header.data(), header.size(), 0);
    lists.push_back(plan_chunks(shard, *files.back(), header.size()));
  }
  const std::vector<Chunk> chunks = in_turns(lists);
  weights::parallel_for(options.num_threads, chunks.size(), [&](size_t i) {
    const Chunk& chunk = chunks[i];
    std::vector<uint16_t> values(chunk.num_bytes / sizeof(uint16_t));
    weights::fill_dummy(
        weights::dummy_key(options.source.seed, chunk.spec->name),
        weights::dummy_rule(chunk.spec->name, chunk.spec->shape.back(), options.source.post_norm),
        chunk.tensor_offset / sizeof(uint16_t), values);
    chunk.file->write(values.data(), chunk.num_bytes, chunk.file_offset);
    progress->add(chunk.num_bytes);
  });
  for (const std::unique_ptr<NewFile>& file : files) file->commit();
}

void write_index(const fs::path& directory, const std::vector<Shard>& shards, size_t total_bytes) {
  nlohmann::json index;
  index["metadata"]["total_size"] = total_bytes;
  for (const Shard& shard : shards) {
    for (const TensorSpec& spec : shard.tensors) index["weight_map"][spec.name] = shard.file;
  }
  const std::string text = index.dump(1);
  NewFile file(directory / "model.safetensors.index.json");
  file.write(text.data(), text.size(), 0);
  file.commit();
}

}  // namespace

std::vector<Shard> plan_shards(std::vector<TensorSpec> tensors, size_t max_shard_bytes) {
  std::vector<Shard> shards;
  size_t shard_bytes = 0;
  for (TensorSpec& spec : tensors) {
    const size_t num_bytes = spec.num_bytes();
    if (shards.empty() || (shard_bytes > 0 && shard_bytes + num_bytes > max_shard_bytes)) {
      shards.emplace_back();
      shard_bytes = 0;
    }
    shard_bytes += num_bytes;
    shards.back().tensors.push_back(std::move(spec));
  }
  for (size_t i = 0; i < shards.size(); ++i) {
    shards[i].file = shards.size() == 1
                         ? "model.safetensors"
                         : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    std::stable_partition(
        shards[i].tensors.begin(), shards[i].tensors.end(),
        [](const TensorSpec& spec) { return spec.num_bytes() % kAlignment == 0; });
  }
  return shards;
}

std::string shard_header(const Shard& shard) {
  std::string text = R"({"__metadata__":{"format":"pt"})";
  size_t offset = 0;
  for (const TensorSpec& spec : shard.tensors) {
    text += fmt::format(R"(,"{}":{{"dtype":"BF16","shape":[{}],"data_offsets":[{},{}]}})",
                        spec.name, fmt::join(spec.shape, ","), offset, offset + spec.num_bytes());
    offset += spec.num_bytes();
  }
  text += '}';
  uint64_t length = 0;
  const size_t unpadded = sizeof(length) + text.size();
  text.resize((unpadded + kAlignment - 1) / kAlignment * kAlignment - sizeof(length), ' ');
  length = text.size();
  std::string header(sizeof(length), '\0');
  std::memcpy(header.data(), &length, sizeof(length));
  return header += text;
}

void write_checkpoint(const fs::path& config_dir, const fs::path& out,
                      const CheckpointOptions& options) {
  const model::ModelConfig config = model::load_model_config(config_dir / "config.json");
  fs::create_directories(out);
  const std::vector<Shard> shards =
      plan_shards(weights::tensor_list(config), options.max_shard_bytes);
  size_t total_bytes = 0;
  for (const Shard& shard : shards) {
    for (const TensorSpec& spec : shard.tensors) total_bytes += spec.num_bytes();
  }
  if (const fs::space_info space = fs::space(out); space.available < total_bytes) {
    throw std::runtime_error(fmt::format("{}: expected {} of free disk, found {}", out.string(),
                                         base::format_bytes(static_cast<double>(total_bytes)),
                                         base::format_bytes(static_cast<double>(space.available))));
  }
  // What an earlier checkpoint left here would be mixed up with the new one.
  fs::remove(out / "model.safetensors");
  fs::remove(out / "model.safetensors.index.json");
  base::Progress progress(total_bytes, options.progress);
  write_shards(out, shards, options, &progress);
  progress.finish();
  if (shards.size() > 1) write_index(out, shards, total_bytes);
  for (const char* name : kCopiedFiles) {
    if (!fs::exists(config_dir / name) || fs::equivalent(config_dir, out)) continue;
    fs::copy_file(config_dir / name, out / name, fs::copy_options::overwrite_existing);
  }
}

}  // namespace beryl::bench
