// The attention shapes of a model, as kernels want them.
#pragma once

#include "kernels/ops.h"
#include "worker/model/model_config.h"

namespace beryl::model {

// Points into `config` (inverse frequencies), which must outlive the shape.
inline kernels::AttentionShape attention_shape(const ModelConfig& config, LayerKind kind) {
  return {.num_heads = config.num_attention_heads,
          .num_kv_heads = config.num_kv_heads(kind),
          .head_dim = config.head_size(kind),
          .rotary_dim = config.rotary_dim(kind),
          .window = kind == LayerKind::kGlobal ? 0 : config.sliding_window,
          .rms_norm_eps = config.rms_norm_eps,
          .inv_freq = config.inv_freq(kind).data()};
}

}  // namespace beryl::model
