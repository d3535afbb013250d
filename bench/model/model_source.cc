#include "bench/model/model_source.h"

#include "worker/weights/checkpoint.h"

namespace beryl::bench {

bool has_weights(const std::filesystem::path& directory) {
  return std::filesystem::exists(directory / "model.safetensors") ||
         std::filesystem::exists(directory / "model.safetensors.index.json");
}

weights::ModelWeights load_weights(const model::ModelConfig& config, const ModelSource& source,
                                   const weights::LoadOptions& options) {
  if (!has_weights(source.directory)) {
    return weights::ModelWeights::from_seed(config, source.dummy, options);
  }
  return weights::ModelWeights::from_checkpoint(config, weights::Checkpoint::open(source.directory),
                                                options);
}

}  // namespace beryl::bench
