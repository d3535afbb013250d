// How cache memory is cut, so that sliding and global layers share it. Layers come in groups of one
// global layer and the sliding layers that use the same memory; each group has one run of memory. A
// page is one piece of every group's run. As a page of sliding layers it holds one block of each of
// them; as a page of global layers it holds `global_blocks` consecutive blocks of each of those:
//
//   run of a group | page 0                             | page 1 ...
//   sliding        | layer a | layer b | ... (a block)  | layer a | layer b | ...
//   global         | block 0 | block 1 | ... block n-1  | block n | ...
//
// For a kernel every layer is a plain array of blocks: the pieces are multiples of both sizes of
// blocks, so that block b of a global layer is b, and page p of a sliding layer is p * sliding_step
// from where the layer begins.
#pragma once

#include <cstddef>

#include "kernels/ops.h"
#include "worker/model/model_config.h"

namespace beryl::cache {

struct PageLayout {
  int num_groups = 1;
  int sliding_layers = 0;  // of a group, at most
  size_t piece_bytes = 0;  // of a page in one group
  int global_blocks = 1;   // of a page
  int sliding_step = 1;    // from a page's block of a sliding layer to the next page's

  size_t page_bytes() const { return piece_bytes * static_cast<size_t>(num_groups); }
};

// Bytes of one block of one layer; dtype as Ops::kv_dtype().
size_t layer_block_bytes(const model::ModelConfig& config, model::LayerKind kind, int block_size,
                         kernels::DType dtype);

PageLayout page_layout(const model::ModelConfig& config, int block_size, kernels::DType dtype);

}  // namespace beryl::cache
