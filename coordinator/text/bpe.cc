// Text is cut where no merge can reach across (BorderFilter), which is exact. A segment that is one
// piece of the vocabulary, and that the merges are known to bring back, is one look-up. Others are
// merged: by scanning for the lowest rank if short, with a heap if long.
#include "coordinator/text/bpe.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <span>

#include "coordinator/text/utf8.h"

namespace beryl::text {
namespace {

// Above this, the heap is faster than scanning all neighbours for every merge.
constexpr size_t kMaxScanSymbols = 48;

// Waits in the heap. Out of date when the ids at its place have changed.
struct Candidate {
  uint64_t order = 0;  // rank, then position: lowest rank first, leftmost on ties
  int32_t left = -1;
  int32_t right = -1;
  int32_t result = -1;
};

struct ComesLater {
  bool operator()(const Candidate& a, const Candidate& b) const { return a.order > b.order; }
};

class Encoder {
 public:
  Encoder(const Tokenizer::Tables& tables, std::vector<int32_t>& out)
      : tables_(tables), out_(out) {}

  void encode(std::string_view text);

 private:
  void encode_segment(std::string_view segment);
  void merge_segment(std::string_view segment);
  void collect_symbols(std::string_view segment);
  void add_fallback(std::string_view code_point);
  void merge_by_scan();
  void merge_by_heap();
  void push_candidate(uint32_t left, uint32_t right);

  const Tokenizer::Tables& tables_;
  std::vector<int32_t>& out_;
  std::vector<int32_t> symbols_;  // ids of the segment; -1: merged into its left neighbour
  bool has_pending_unk_ = false;
  std::vector<uint32_t> previous_;  // neighbours of symbols, merge_by_heap()
  std::vector<uint32_t> next_;
  std::vector<Candidate> heap_;
};

void Encoder::encode(std::string_view text) {
  if (text.empty()) return;
  if (!tables_.can_split) {
    merge_segment(text);
    return;
  }
  size_t begin = 0;
  CodePoint left = code_point_at(text.data());
  for (size_t i = left.num_bytes; i < text.size();) {
    const CodePoint right = code_point_at(text.data() + i);
    if (!tables_.borders.may_cross(left.value, right.value)) {
      encode_segment(text.substr(begin, i - begin));
      begin = i;
    }
    i += right.num_bytes;
    left = right;
  }
  encode_segment(text.substr(begin));
}

void Encoder::encode_segment(std::string_view segment) {
  if (segment.size() > tables_.max_piece_bytes) {
    merge_segment(segment);
    return;
  }
  const int32_t id = tables_.pieces.find(segment);
  if (id < 0) {
    merge_segment(segment);
    return;
  }
  std::atomic<Roundtrip>& roundtrip = tables_.roundtrips[id];
  if (roundtrip.load(std::memory_order_relaxed) == Roundtrip::kYes) {
    out_.push_back(id);
    return;
  }
  const size_t before = out_.size();
  merge_segment(segment);
  const bool same = out_.size() == before + 1 && out_.back() == id;
  roundtrip.store(same ? Roundtrip::kYes : Roundtrip::kNo, std::memory_order_relaxed);
}

void Encoder::merge_segment(std::string_view segment) {
  collect_symbols(segment);
  if (symbols_.size() > kMaxScanSymbols) {
    merge_by_heap();
  } else if (symbols_.size() > 1) {
    merge_by_scan();
  }
  for (const int32_t id : symbols_) {
    if (id >= 0) out_.push_back(id);
  }
}

void Encoder::collect_symbols(std::string_view segment) {
  symbols_.clear();
  has_pending_unk_ = false;
  for (size_t i = 0; i < segment.size();) {
    const CodePoint point = code_point_at(segment.data() + i);
    const int32_t id = tables_.code_point_ids[point.value];
    if (id < 0) {
      add_fallback(segment.substr(i, point.num_bytes));
    } else {
      if (has_pending_unk_) symbols_.push_back(tables_.unk_id);
      has_pending_unk_ = false;
      symbols_.push_back(id);
    }
    i += point.num_bytes;
  }
  if (has_pending_unk_) symbols_.push_back(tables_.unk_id);
}

// NOTE: as in Hugging Face, a pending <unk> comes out only before the next known code point, so
// after byte tokens that follow it.
void Encoder::add_fallback(std::string_view code_point) {
  const auto id_of = [this](char c) { return tables_.byte_ids[static_cast<unsigned char>(c)]; };
  if (tables_.byte_fallback &&
      std::all_of(code_point.begin(), code_point.end(), [&](char c) { return id_of(c) >= 0; })) {
    for (const char c : code_point) symbols_.push_back(id_of(c));
    return;
  }
  if (tables_.unk_id < 0) return;
  if (has_pending_unk_ && !tables_.fuse_unk) symbols_.push_back(tables_.unk_id);
  has_pending_unk_ = true;
}

void Encoder::merge_by_scan() {
  Merge merges[kMaxScanSymbols];  // [i] joins symbols i and i + 1
  size_t num_symbols = symbols_.size();
  for (size_t i = 0; i + 1 < num_symbols; ++i) {
    merges[i] = tables_.merges.find(symbols_[i], symbols_[i + 1]);
  }
  while (num_symbols > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < num_symbols; ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].result < 0) break;
    symbols_[best] = merges[best].result;
    std::copy(&symbols_[best] + 2, symbols_.data() + num_symbols, &symbols_[best] + 1);
    std::copy(merges + best + 1, merges + num_symbols - 1, merges + best);
    --num_symbols;
    if (best + 1 < num_symbols) {
      merges[best] = tables_.merges.find(symbols_[best], symbols_[best + 1]);
    }
    if (best > 0) merges[best - 1] = tables_.merges.find(symbols_[best - 1], symbols_[best]);
  }
  symbols_.resize(num_symbols);
}

void Encoder::push_candidate(uint32_t left, uint32_t right) {
  const Merge merge = tables_.merges.find(symbols_[left], symbols_[right]);
  if (merge.result < 0) return;
  heap_.push_back(
      {uint64_t{merge.rank} << 32 | left, symbols_[left], symbols_[right], merge.result});
}

void Encoder::merge_by_heap() {
  const auto num_symbols = static_cast<uint32_t>(symbols_.size());
  previous_.resize(num_symbols);
  next_.resize(num_symbols);
  heap_.clear();
  for (uint32_t i = 0; i < num_symbols; ++i) {
    previous_[i] = i - 1;  // of the first: never read
    next_[i] = i + 1;      // num_symbols: none
    if (i + 1 < num_symbols) push_candidate(i, i + 1);
  }
  std::make_heap(heap_.begin(), heap_.end(), ComesLater{});
  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end(), ComesLater{});
    const Candidate top = heap_.back();
    heap_.pop_back();
    const auto left = static_cast<uint32_t>(top.order & UINT32_MAX);
    const uint32_t right = next_[left];
    if (symbols_[left] != top.left || right == num_symbols || symbols_[right] != top.right)
      continue;
    symbols_[left] = top.result;
    symbols_[right] = -1;
    next_[left] = next_[right];
    const size_t num_waiting = heap_.size();
    if (next_[left] != num_symbols) {
      previous_[next_[left]] = left;
      push_candidate(left, next_[left]);
      if (heap_.size() > num_waiting) std::push_heap(heap_.begin(), heap_.end(), ComesLater{});
    }
    if (left > 0) {
      const size_t num_before = heap_.size();
      push_candidate(previous_[left], left);
      if (heap_.size() > num_before) std::push_heap(heap_.begin(), heap_.end(), ComesLater{});
    }
  }
}

}  // namespace

void encode_pieces(const Tokenizer::Tables& tables, std::string_view text,
                   std::vector<int32_t>& out) {
  Encoder(tables, out).encode(text);
}

}  // namespace beryl::text
