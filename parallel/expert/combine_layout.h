// Which rows travel back from the rank of the experts to the source, and in which order. Both sides
// build it from the same dispatched messages, so nothing about it is sent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "parallel/expert/dispatch_message.h"
#include "parallel/expert/placement.h"

namespace beryl::expert {

// For each expert the first id of its sum node: the largest aligned power-of-two block of expert
// ids (cut at num_experts) whose members all live on one rank only, the same for all of them. The
// rank of such a node sums it; an expert with copies is a node of its own.
std::vector<int32_t> sum_nodes(const Placement& placement);

// One float32 row [H] that travels back: the weighted sum of some experts of a dispatched row.
struct CombineRow {
  int32_t row = 0;    // index of the dispatched row, counted over the messages in peer order
  int32_t key = 0;    // first expert id of the sum node
  int32_t begin = 0;  // the experts summed: entries [begin, end) of the row's route
  int32_t end = 0;
};

class CombineLayout {
 public:
  // `nodes` must outlive the layout. Room for max_rows dispatched rows of top_k experts.
  CombineLayout(std::span<const int32_t> nodes, int num_peers, int max_rows, int top_k);

  void clear();
  // The message between this rank and the next peer, peers in rank order.
  void add_peer(const DispatchMessage& message);

  std::span<const CombineRow> rows() const { return rows_; }
  // Bytes of the rows of each peer, [num_peers + 1], once every peer was added.
  std::span<const size_t> byte_offsets(const DispatchFormat& format);

 private:
  const std::span<const int32_t> nodes_;
  std::vector<CombineRow> rows_;
  std::vector<size_t> peer_ends_;     // rows up to each peer added so far
  std::vector<size_t> byte_offsets_;  // [num_peers + 1]
  int32_t num_dispatched_ = 0;
};

}  // namespace beryl::expert
