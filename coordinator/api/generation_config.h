// The model's generation_config.json: its sampling defaults and where a generation ends.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/api/options.h"
#include "parallel/base/expected.h"

namespace beryl::api {

struct GenerationConfig {
  SamplingDefaults sampling;
  std::vector<int32_t> eos_token_ids;  // empty where the file does not say
};

// Reads MODEL_DIR/generation_config.json. A missing file gives an empty config, a malformed one an
// error that names it.
base::Expected<GenerationConfig> load_generation_config(const std::string& model_dir);

}  // namespace beryl::api
