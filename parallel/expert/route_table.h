// The source's side of a dispatch: which rank serves each (row, expert), and how many rows that
// makes for each peer in each round.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/tensor.h"
#include "parallel/expert/dispatch_message.h"
#include "parallel/expert/placement.h"

namespace beryl::expert {

struct RoutedRows;

// Rows of this rank that belong to one round: [begin, end).
struct RoundRows {
  int begin = 0;
  int end = 0;
};

class RouteTable {
 public:
  RouteTable(const Placement& placement, int max_rows, int top_k, int rows_per_round);

  // Chooses copies for all rows. `rows` must stay valid until the last pack().
  void build(const RoutedRows& rows, int num_rounds);

  size_t max_rounds() const { return max_rounds_; }
  RoundRows round_rows(int round) const;
  // Rows of the round that go to `peer`.
  int count(int peer, int round) const;
  // counts(peer)[round]
  std::span<const int32_t> counts(int peer) const;

  // Fills `message` with the rows of the round for `peer`, and appends to source_rows the index of
  // each, counted from the begin of the round.
  void pack(int peer, int round, DispatchMessage& message, std::vector<int32_t>& source_rows);

 private:
  struct Entry {
    int32_t expert = 0;
    int32_t rank = 0;
    float weight = 0;
  };

  std::span<const Entry> entries(int row) const;
  void build_row(const RoutedRows& rows, int row);

  const Placement& placement_;
  const int top_k_;
  const int rows_per_round_;
  const size_t max_rounds_;
  int num_rows_ = 0;
  int num_rounds_ = 0;
  const float* x_ = nullptr;  // [T, H]
  size_t hidden_size_ = 0;
  std::vector<Entry> entries_;         // [T, top_k], ascending by expert within a row
  std::vector<int32_t> entry_counts_;  // [T] used entries
  std::vector<int32_t> counts_;        // [num_ranks, max_rounds]
  std::vector<int32_t> ids_;           // [top_k] of the row being packed
  std::vector<float> weights_;
};

}  // namespace beryl::expert
