// Aho-Corasick over the bytes of the stop strings. The depth of the current node is the length of
// the longest end of the text that begins some stop string, which is what must be held back.
#include "coordinator/text/stop_matcher.h"

#include <fmt/format.h>

#include <algorithm>

namespace beryl::text {

base::Expected<StopMatcher> StopMatcher::create(const std::vector<std::string>& stops,
                                                Options options) {
  if (stops.size() > kMaxStopStrings) {
    return base::invalid_argument("stop", fmt::format("{} stop strings, at most {} are allowed",
                                                      stops.size(), kMaxStopStrings));
  }
  StopMatcher matcher;
  matcher.options_ = options;
  matcher.nodes_.emplace_back();
  for (size_t i = 0; i < stops.size(); ++i) {
    if (stops[i].empty()) return base::invalid_argument("stop", "a stop string is empty");
    if (stops[i].size() > kMaxStopBytes) {
      return base::invalid_argument(
          "stop", fmt::format("a stop string of {} bytes, at most {} are allowed", stops[i].size(),
                              kMaxStopBytes));
    }
    matcher.insert(stops[i], i);
    matcher.stop_bytes_.push_back(stops[i].size());
  }
  matcher.link();
  return matcher;
}

void StopMatcher::insert(std::string_view stop, size_t stop_idx) {
  uint32_t node = 0;
  for (const char c : stop) {
    const auto byte = static_cast<unsigned char>(c);
    uint32_t below = child(node, byte);
    if (below == 0) {
      below = static_cast<uint32_t>(nodes_.size());
      nodes_.emplace_back();
      nodes_[below].depth = nodes_[node].depth + 1;
      auto& edges = nodes_[node].edges;
      edges.insert(std::lower_bound(edges.begin(), edges.end(), std::pair(byte, uint32_t{0})),
                   {byte, below});
    }
    node = below;
  }
  if (nodes_[node].stop_idx < 0) nodes_[node].stop_idx = static_cast<int32_t>(stop_idx);
}

// Suffix links in order of depth. A node without its own stop string takes that of its suffix.
void StopMatcher::link() {
  std::vector<uint32_t> order{0};
  for (size_t i = 0; i < order.size(); ++i) {
    const uint32_t parent = order[i];
    for (const auto& [byte, node] : nodes_[parent].edges) {
      if (parent != 0) nodes_[node].suffix = next(nodes_[parent].suffix, byte);
      if (nodes_[node].stop_idx < 0) nodes_[node].stop_idx = nodes_[nodes_[node].suffix].stop_idx;
      order.push_back(node);
    }
  }
}

uint32_t StopMatcher::child(uint32_t node, unsigned char byte) const {
  const auto& edges = nodes_[node].edges;
  const auto edge = std::lower_bound(edges.begin(), edges.end(), std::pair(byte, uint32_t{0}));
  return edge != edges.end() && edge->first == byte ? edge->second : 0;
}

uint32_t StopMatcher::next(uint32_t node, unsigned char byte) const {
  for (;;) {
    const uint32_t below = child(node, byte);
    if (below != 0 || node == 0) return below;
    node = nodes_[node].suffix;
  }
}

// `held_` always ends with the text that led to `node_`, so a match lies inside it.
StopMatcher::Output StopMatcher::push(std::string_view text) {
  if (stopped_) return {};
  if (nodes_.size() == 1) return {std::string(text), std::nullopt};
  held_ += text;
  const size_t num_old = held_.size() - text.size();
  for (size_t i = num_old; i < held_.size(); ++i) {
    node_ = next(node_, static_cast<unsigned char>(held_[i]));
    const int32_t stop_idx = nodes_[node_].stop_idx;
    if (stop_idx < 0) continue;
    stopped_ = true;
    const size_t end = i + 1;
    const size_t shown = options_.include_stop_str_in_output ? end : end - stop_bytes_[stop_idx];
    return {held_.substr(0, shown), static_cast<size_t>(stop_idx)};
  }
  const size_t num_ready = held_.size() - nodes_[node_].depth;
  Output output{held_.substr(0, num_ready), std::nullopt};
  held_.erase(0, num_ready);
  return output;
}

std::string StopMatcher::finish() {
  if (stopped_) return {};
  stopped_ = true;
  return std::move(held_);
}

}  // namespace beryl::text
