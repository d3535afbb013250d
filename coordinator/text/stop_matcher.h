// Stop strings on a stream of text. Text that may be the beginning of a stop string is held back,
// so none is ever shown in part. Time is linear in the text, whatever the number of stop strings.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "parallel/base/expected.h"

namespace beryl::text {

constexpr size_t kMaxStopStrings = 64;
constexpr size_t kMaxStopBytes = 4096;  // of one stop string

class StopMatcher {
 public:
  struct Options {
    bool include_stop_str_in_output = false;
  };
  struct Output {
    std::string text;                    // may be shown now
    std::optional<size_t> matched_stop;  // index of the stop string: the answer ends here
  };

  // kInvalidArgument with param "stop" for an empty or too long string, or too many.
  static base::Expected<StopMatcher> create(const std::vector<std::string>& stops, Options options);

  // The match that ends first counts; of those that end together, the longest. Text after the match
  // is dropped, and so is everything pushed later.
  Output push(std::string_view text);

  // The answer ended otherwise: returns what was held back.
  std::string finish();

 private:
  struct Node {
    std::vector<std::pair<unsigned char, uint32_t>> edges;  // sorted by byte
    uint32_t suffix = 0;    // node of the longest proper suffix that is also a prefix
    uint32_t depth = 0;     // bytes
    int32_t stop_idx = -1;  // stop string that ends here or at a suffix; the longest
  };

  StopMatcher() = default;
  void insert(std::string_view stop, size_t stop_idx);
  void link();
  uint32_t child(uint32_t node, unsigned char byte) const;
  uint32_t next(uint32_t node, unsigned char byte) const;

  Options options_;
  std::vector<size_t> stop_bytes_;  // length of each stop string
  std::vector<Node> nodes_;
  uint32_t node_ = 0;
  std::string held_;  // the last nodes_[node_].depth bytes
  bool stopped_ = false;
};

}  // namespace beryl::text
