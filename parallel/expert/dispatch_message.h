// The message that carries rows from a source rank to the rank of their experts:
//   header | ids [slots, top_k] | weights [slots, top_k] | padding to 64 bytes | x [slots, H]
// In padded mode slots is fixed by the step and the header holds the true count; in exact mode both
// are equal. A message of 0 bytes has no rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace beryl::expert {

constexpr size_t kMessageAlignment = 64;

struct DispatchHeader {
  int32_t count = 0;  // rows
  int32_t slots = 0;  // rows there is room for
};

struct DispatchFormat {
  int hidden_size = 0;
  int top_k = 0;

  size_t row_bytes() const { return static_cast<size_t>(hidden_size) * sizeof(float); }
  size_t message_bytes(int slots) const;
};

// The experts of one row on one destination rank, ascending by id.
struct RowRoute {
  std::span<const int32_t> ids;    // global expert ids
  std::span<const float> weights;  // same length
};

// A window on one message. Made by the source with reset(), by the destination with open().
class DispatchMessage {
 public:
  // A message without rows (0 bytes).
  DispatchMessage() = default;
  // Starts an empty message of `slots` rows at `memory`.
  static DispatchMessage reset(const DispatchFormat& format, std::byte* memory, int slots);
  // Reads `num_bytes` at `memory`; not valid() if they are not such a message.
  static DispatchMessage open(const DispatchFormat& format, std::byte* memory, size_t num_bytes);

  bool valid() const { return valid_; }
  int count() const { return header_ == nullptr ? 0 : header_->count; }
  RowRoute route(int i) const;
  const float* x() const { return x_; }  // [count, H]

  // Appends a row with x [H].
  void append(const RowRoute& route, const float* x);

 private:
  DispatchMessage(const DispatchFormat& format, std::byte* memory, int slots);

  DispatchHeader* header_ = nullptr;
  int32_t* ids_ = nullptr;    // [slots, top_k], -1 = unused
  float* weights_ = nullptr;  // [slots, top_k]
  float* x_ = nullptr;        // [slots, H]
  size_t top_k_ = 0;
  size_t hidden_size_ = 0;
  bool valid_ = true;
};

}  // namespace beryl::expert
