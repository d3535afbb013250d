// What Tokenizer knows after loading, shared by the loader and the encoder.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "coordinator/text/piece_tables.h"
#include "coordinator/text/tokenizer.h"

namespace beryl::text {

// Whether the merges turn the text of a piece back into this one piece. Found out on first use.
enum class Roundtrip : uint8_t { kNotTried, kYes, kNo };

struct Tokenizer::Tables {
  PieceTable pieces;
  MergeTable merges;
  BorderFilter borders;
  size_t max_piece_bytes = 0;
  bool byte_fallback = false;
  bool fuse_unk = false;
  bool can_split = true;  // false if a pending <unk> could reach over a border
  int32_t unk_id = -1;
  std::array<int32_t, 256> byte_ids{};  // id of "<0xHH>", -1 if missing

  std::vector<int32_t> code_point_ids;  // [0x110000] pieces of one code point, -1 if none
  std::vector<bool> is_added;           // [vocab_size]
  std::vector<bool> is_special;         // [vocab_size]
  std::vector<int16_t> byte_values;     // [vocab_size] -1 if the id is not a single byte
  std::string decoded;                  // bytes of all ids, one after the other
  std::vector<uint32_t> decoded_begin;  // [vocab_size + 1]

  std::unordered_map<std::string, int32_t> added_ids;
  std::vector<size_t> added_lengths;     // of added tokens in bytes, distinct, longest first
  std::array<bool, 256> starts_added{};  // first bytes of added tokens

  // A cache of pure functions of the tables: racing writers store the same value.
  mutable std::unique_ptr<std::atomic<Roundtrip>[]> roundtrips;  // [vocab_size]
};

}  // namespace beryl::text
