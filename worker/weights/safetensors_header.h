// The header of a safetensors file: which tensors it holds, where, of what type and shape. Pure
// text work on untrusted bytes; nothing is allocated beyond the header itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace beryl::weights {

constexpr size_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kMaxHeaderDims = 8;
constexpr size_t kMaxTensorsPerFile = 1'000'000;

// A tensor as the file describes it.
struct StoredTensor {
  std::string dtype;           // as written, e.g. "BF16"
  std::vector<int64_t> shape;  // empty: a scalar
  size_t offset = 0;           // bytes from the start of the file
  size_t num_bytes = 0;
};

using TensorMap = std::map<std::string, StoredTensor, std::less<>>;

// Checks everything that can be checked: length, JSON, duplicate keys, known types, sizes without
// overflow, ranges that cover the data exactly. `file_bytes` may be only the head of the file as
// long as it holds the header; `file_size` is the size of all of it. Throws LoadError.
TensorMap parse_safetensors_header(std::span<const std::byte> file_bytes, size_t file_size,
                                   const std::string& file);

// "BF16 [3, 4]"
std::string describe(std::string_view dtype, std::span<const int64_t> shape);

}  // namespace beryl::weights
