#include "parallel/expert/dispatch_message.h"

#include <algorithm>

#include "parallel/base/assert.h"

namespace beryl::expert {
namespace {

constexpr size_t kHeaderBytes = kMessageAlignment;
static_assert(sizeof(DispatchHeader) <= kHeaderBytes);
static_assert(sizeof(int32_t) == sizeof(float));

size_t align(size_t num_bytes) {
  return (num_bytes + kMessageAlignment - 1) / kMessageAlignment * kMessageAlignment;
}

size_t x_offset(const DispatchFormat& format, int slots) {
  const size_t entries = static_cast<size_t>(slots) * static_cast<size_t>(format.top_k);
  return align(kHeaderBytes + entries * (sizeof(int32_t) + sizeof(float)));
}

}  // namespace

size_t DispatchFormat::message_bytes(int slots) const {
  if (slots == 0) return 0;
  return align(x_offset(*this, slots) + static_cast<size_t>(slots) * row_bytes());
}

DispatchMessage::DispatchMessage(const DispatchFormat& format, std::byte* memory, int slots)
    : header_(reinterpret_cast<DispatchHeader*>(memory)),
      ids_(reinterpret_cast<int32_t*>(memory + kHeaderBytes)),
      weights_(reinterpret_cast<float*>(ids_ + static_cast<size_t>(slots * format.top_k))),
      x_(reinterpret_cast<float*>(memory + x_offset(format, slots))),
      top_k_(static_cast<size_t>(format.top_k)),
      hidden_size_(static_cast<size_t>(format.hidden_size)) {}

DispatchMessage DispatchMessage::reset(const DispatchFormat& format, std::byte* memory, int slots) {
  if (slots == 0) return {};
  DispatchMessage message(format, memory, slots);
  *message.header_ = DispatchHeader{0, slots};
  return message;
}

DispatchMessage DispatchMessage::open(const DispatchFormat& format, std::byte* memory,
                                      size_t num_bytes) {
  if (num_bytes == 0) return {};
  DispatchMessage message;
  const auto* header = reinterpret_cast<const DispatchHeader*>(memory);
  const bool sane = num_bytes >= kHeaderBytes && header->slots > 0 && header->count >= 0 &&
                    header->count <= header->slots &&
                    format.message_bytes(header->slots) == num_bytes;
  if (sane) return DispatchMessage(format, memory, header->slots);
  message.valid_ = false;
  return message;
}

RowRoute DispatchMessage::route(int i) const {
  const size_t begin = static_cast<size_t>(i) * top_k_;
  const std::span<const int32_t> ids(ids_ + begin, top_k_);
  const auto used = static_cast<size_t>(std::find(ids.begin(), ids.end(), -1) - ids.begin());
  return RowRoute{ids.first(used), {weights_ + begin, used}};
}

void DispatchMessage::append(const RowRoute& route, const float* x) {
  BERYL_ASSERT(header_ != nullptr && header_->count < header_->slots, "no slot left of {}",
               header_ == nullptr ? 0 : header_->slots);
  const auto row = static_cast<size_t>(header_->count++);
  const size_t begin = row * top_k_;
  std::fill_n(ids_ + begin, top_k_, -1);
  std::copy(route.ids.begin(), route.ids.end(), ids_ + begin);
  std::copy(route.weights.begin(), route.weights.end(), weights_ + begin);
  std::copy_n(x, hidden_size_, x_ + row * hidden_size_);
}

}  // namespace beryl::expert
