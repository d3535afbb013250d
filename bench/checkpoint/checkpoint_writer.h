// Writes the dummy weights of a config as a checkpoint in the published format.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "parallel/base/progress.h"
#include "worker/model/model_config.h"
#include "worker/weights/model_weights.h"
#include "worker/weights/tensor_list.h"

namespace beryl::bench {

struct CheckpointOptions {
  weights::DummySource source;
  size_t max_shard_bytes = 5'000'000'000;
  int num_threads = 1;
  base::ProgressListener progress = {};
};

// One file to be: tensors in file order.
struct Shard {
  std::string file;
  std::vector<weights::TensorSpec> tensors;
};

// In list order, each shard filled up to the limit; a larger tensor gets a shard of its own. Inside
// a shard, tensors whose size is a multiple of 64 bytes come first, so that they stay aligned.
std::vector<Shard> plan_shards(std::vector<weights::TensorSpec> tensors, size_t max_shard_bytes);

// Length and header, padded so that data starts at a multiple of 64 bytes.
std::string shard_header(const Shard& shard);

// Creates `out` where needed and writes weights, index (several shards) and copies of the config
// and tokenizer files of `config_dir`. Files appear under their names when complete. Throws
// std::runtime_error.
void write_checkpoint(const std::filesystem::path& config_dir, const std::filesystem::path& out,
                      const CheckpointOptions& options);

}  // namespace beryl::bench
