// Look-up tables of the tokenizer, laid out for few cache misses: pieces by text, merges by pair of
// ids, and which neighbouring code points a merge can join at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace beryl::text {

// Texts by id and ids by text.
class PieceTable {
 public:
  void reserve(size_t num_pieces, size_t num_bytes);

  // False if the id or the text is already there.
  bool insert(std::string_view text, int32_t id);

  // -1 if there is none.
  int32_t find(std::string_view text) const;

  // Empty for ids that are not there.
  std::string_view text(int32_t id) const {
    return {arena_.data() + spans_[id].begin, spans_[id].num_bytes};
  }
  int32_t num_ids() const { return static_cast<int32_t>(spans_.size()); }

 private:
  struct Span {
    uint32_t begin = 0;
    uint32_t num_bytes = 0;
  };

  std::string arena_;
  std::vector<Span> spans_;      // [num_ids]
  std::vector<uint64_t> slots_;  // power of two; upper half of the hash, id + 1; 0 is empty
};

struct Merge {
  uint32_t rank = UINT32_MAX;  // lower merges first
  int32_t result = -1;
};

// Merges by pair of ids.
class MergeTable {
 public:
  void reserve(size_t num_merges);

  // A pair that comes again gets the later rank, as in Hugging Face.
  void insert(int32_t left, int32_t right, Merge merge);

  // rank UINT32_MAX if there is none.
  Merge find(int32_t left, int32_t right) const {
    const uint64_t key = key_of(left, right);
    for (size_t i = slot_of(key);; i = (i + 1) & mask_) {
      if (slots_[i].key == key) return slots_[i].merge;
      if (slots_[i].key == kEmpty) return {};
    }
  }

 private:
  static constexpr uint64_t kEmpty = UINT64_MAX;
  struct Slot {
    uint64_t key = kEmpty;
    Merge merge;
  };

  static uint64_t key_of(int32_t left, int32_t right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }
  size_t slot_of(uint64_t key) const {
    return static_cast<size_t>((key * 0x9E3779B97F4A7C15ull) >> shift_) & mask_;
  }

  std::vector<Slot> slots_;
  size_t mask_ = 0;
  int shift_ = 63;
};

// Can any merge join text across the border between two code points? Only if some merge result
// holds the two side by side. "No" is certain; "yes" may be wrong, which costs time, never
// exactness.
class BorderFilter {
 public:
  BorderFilter() : bits_((size_t{1} << kLogBits) / 64), ascii_(128 * 128 / 64) {}

  // All neighbours in `text`, a merge result.
  void add_text(std::string_view text);

  bool may_cross(uint32_t left, uint32_t right) const {
    if ((left | right) < 128) {
      const uint32_t i = left * 128 + right;
      return ascii_[i / 64] >> (i % 64) & 1;
    }
    const uint64_t i = index_of(left, right);
    return bits_[i / 64] >> (i % 64) & 1;
  }

 private:
  static constexpr int kLogBits = 21;  // 256 KiB: 1.6 % full with the 33,695 pairs of Gemma 4

  static uint64_t index_of(uint32_t left, uint32_t right) {
    return ((uint64_t{left} << 21 | right) * 0x9E3779B97F4A7C15ull) >> (64 - kLogBits);
  }

  std::vector<uint64_t> bits_;
  std::vector<uint64_t> ascii_;
};

}  // namespace beryl::text
