#include "coordinator/text/piece_tables.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <bit>
#include <cstring>

#include "coordinator/text/utf8.h"

namespace beryl::text {

void PieceTable::reserve(size_t num_pieces, size_t num_bytes) {
  arena_.reserve(num_bytes);
  spans_.reserve(num_pieces);
  slots_.assign(std::bit_ceil(num_pieces * 2 + 2), 0);
}

// Linear probing at half load. The upper half of the hash in the slot saves most text comparisons.
bool PieceTable::insert(std::string_view text, int32_t id) {
  if (static_cast<size_t>(id) >= spans_.size()) spans_.resize(static_cast<size_t>(id) + 1);
  if (spans_[id].num_bytes != 0 || text.empty()) return false;
  const uint64_t hash = XXH3_64bits(text.data(), text.size());
  const size_t mask = slots_.size() - 1;
  size_t i = hash & mask;
  for (; slots_[i] != 0; i = (i + 1) & mask) {
    const auto other = static_cast<int32_t>(slots_[i] & UINT32_MAX) - 1;
    if ((slots_[i] ^ hash) >> 32 == 0 && this->text(other) == text) return false;
  }
  slots_[i] = (hash >> 32 << 32) | (static_cast<uint32_t>(id) + 1u);
  spans_[id] = {static_cast<uint32_t>(arena_.size()), static_cast<uint32_t>(text.size())};
  arena_ += text;
  return true;
}

int32_t PieceTable::find(std::string_view text) const {
  const uint64_t hash = XXH3_64bits(text.data(), text.size());
  const size_t mask = slots_.size() - 1;
  for (size_t i = hash & mask; slots_[i] != 0; i = (i + 1) & mask) {
    if ((slots_[i] ^ hash) >> 32 != 0) continue;
    const auto id = static_cast<int32_t>(slots_[i] & UINT32_MAX) - 1;
    if (this->text(id) == text) return id;
  }
  return -1;
}

void MergeTable::reserve(size_t num_merges) {
  slots_.assign(std::bit_ceil(num_merges * 2 + 2), Slot{});
  mask_ = slots_.size() - 1;
  shift_ = 64 - std::countr_zero(slots_.size());
}

void MergeTable::insert(int32_t left, int32_t right, Merge merge) {
  const uint64_t key = key_of(left, right);
  size_t i = slot_of(key);
  while (slots_[i].key != kEmpty && slots_[i].key != key) i = (i + 1) & mask_;
  slots_[i] = {key, merge};
}

void BorderFilter::add_text(std::string_view text) {
  CodePoint left = code_point_at(text.data());
  for (size_t i = left.num_bytes; i < text.size();) {
    const CodePoint right = code_point_at(text.data() + i);
    if ((left.value | right.value) < 128) {
      const uint32_t bit = left.value * 128 + right.value;
      ascii_[bit / 64] |= uint64_t{1} << (bit % 64);
    } else {
      const uint64_t bit = index_of(left.value, right.value);
      bits_[bit / 64] |= uint64_t{1} << (bit % 64);
    }
    i += right.num_bytes;
    left = right;
  }
}

}  // namespace beryl::text
