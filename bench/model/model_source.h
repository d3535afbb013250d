// Where a model comes from: a directory with config.json and either safetensors or a seed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>

#include "parallel/base/progress.h"
#include "worker/model/model_config.h"
#include "worker/weights/model_weights.h"

namespace beryl::bench {

struct ModelSource {
  std::filesystem::path directory;
  weights::DummySource dummy;  // used where the directory holds no weights
};

bool has_weights(const std::filesystem::path& directory);

// This rank's weights. Throws weights::LoadError.
weights::ModelWeights load_weights(const model::ModelConfig& config, const ModelSource& source,
                                   const weights::LoadOptions& options);

}  // namespace beryl::bench
