#include "kernels/cuda/sampling_batch.h"

#include <cstring>

#include "kernels/check.h"

namespace beryl::kernels::cuda {
namespace {

static_assert(sizeof(TokenCount) == 8 && sizeof(TokenBias) == 8 && sizeof(SamplingRow) % 8 == 0);

template <typename Entry>
const Entry* append(const Entry* entries, int32_t count, int32_t vocab_size,
                    std::vector<std::byte>& bytes, size_t& at, std::byte* device) {
  for (int32_t i = 0; i < count; ++i) {
    BERYL_CHECK(entries[i].token_id >= 0 && entries[i].token_id < vocab_size);
  }
  const size_t size = static_cast<size_t>(count) * sizeof(Entry);
  if (size > 0) std::memcpy(bytes.data() + at, entries, size);
  const auto* result = reinterpret_cast<const Entry*>(device + at);
  at += size;
  return result;
}

}  // namespace

size_t SamplingBatchPacker::num_bytes(const SamplingBatch& batch) {
  size_t size = static_cast<size_t>(batch.num_rows) * sizeof(SamplingRow);
  for (int i = 0; i < batch.num_rows; ++i) {
    size += static_cast<size_t>(batch.rows[i].num_counts) * sizeof(TokenCount);
    size += static_cast<size_t>(batch.rows[i].num_biases) * sizeof(TokenBias);
  }
  return size;
}

const std::vector<std::byte>& SamplingBatchPacker::pack(const SamplingBatch& batch,
                                                        int32_t vocab_size, std::byte* device) {
  bytes_.resize(num_bytes(batch));
  size_t at = static_cast<size_t>(batch.num_rows) * sizeof(SamplingRow);
  for (int i = 0; i < batch.num_rows; ++i) {
    SamplingRow row = batch.rows[i];
    row.counts = append(row.counts, row.num_counts, vocab_size, bytes_, at, device);
    row.biases = append(row.biases, row.num_biases, vocab_size, bytes_, at, device);
    std::memcpy(bytes_.data() + static_cast<size_t>(i) * sizeof(SamplingRow), &row, sizeof(row));
  }
  return bytes_;
}

}  // namespace beryl::kernels::cuda
