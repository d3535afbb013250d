// Launchers of operations on single rows. Rows are float32 unless said otherwise, n numbers each,
// n a multiple of 4, 16-byte aligned.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/launch_stream.h"
#include "kernels/hashed_weights.h"
#include "kernels/ops.h"

namespace beryl::kernels::cuda {

// out[t] = table[ids[t]] * scale; table bf16, n a multiple of 8.
cudaError_t launch_embed(const uint16_t* table, const int32_t* ids, float scale,
                         const TensorView& out, LaunchStream stream);
cudaError_t launch_tree_sum(const TensorView& in, const TreeSumBatch& batch, const TensorView& out,
                            LaunchStream stream);
// x = cap * tanh(x / cap), in place.
cudaError_t launch_softcap(float* x, int64_t count, float cap, LaunchStream stream);
// out = bf16(gelu_tanh(gate) * up), all bf16, count a multiple of 8.
cudaError_t launch_gelu_mul(const uint16_t* gate, const uint16_t* up, int64_t count, uint16_t* out,
                            LaunchStream stream);
cudaError_t launch_fill_hashed(const HashedTensor& tensor, uint64_t first_index, uint16_t* out,
                               size_t count, LaunchStream stream);

// True where the code that this device runs can wait for earlier kernels (compiled for sm_90 or
// newer), so that kernels may overlap.
bool kernels_can_overlap();

}  // namespace beryl::kernels::cuda
