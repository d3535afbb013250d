#include "tests/parity/trace.h"

#include <fmt/format.h>

#include <cstring>
#include <span>

namespace beryl::bench {

namespace {

template <typename T>
std::vector<T> row_of(const kernels::TensorView& tensor, size_t row) {
  const auto width = static_cast<size_t>(tensor.shape[1]);
  const T* begin = tensor.as<const T>() + row * width;
  return {begin, begin + width};
}

template <typename T>
std::optional<std::string> compare(const char* what, const std::vector<T>& expected,
                                   const std::vector<T>& found) {
  if (expected.size() != found.size()) {
    return fmt::format("{}: {} values and {}", what, expected.size(), found.size());
  }
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::memcmp(&expected[i], &found[i], sizeof(T)) != 0) {
      return fmt::format("{}[{}] {} and {}", what, i, expected[i], found[i]);
    }
  }
  return std::nullopt;
}

std::optional<std::string> compare_layer(const PositionTrace& expected, const PositionTrace& found,
                                         size_t stage) {
  if (stage < expected.topk_idx.size()) {
    if (auto text = compare("expert", expected.topk_idx[stage], found.topk_idx[stage])) return text;
    if (auto text = compare("weight", expected.topk_weights[stage], found.topk_weights[stage])) {
      return text;
    }
  }
  return compare("hidden", expected.hidden[stage + 1], found.hidden[stage + 1]);
}

}  // namespace

void TraceObserver::on_hidden(int stage, const kernels::TensorView& hidden) {
  (void)stage;
  for_each_row([&](size_t row, PositionTrace* trace) {
    trace->hidden.push_back(row_of<float>(hidden, row));
  });
}

void TraceObserver::on_routing(int layer, const kernels::TensorView& topk_idx,
                               const kernels::TensorView& topk_weights) {
  (void)layer;
  for_each_row([&](size_t row, PositionTrace* trace) {
    trace->topk_idx.push_back(row_of<int32_t>(topk_idx, row));
    trace->topk_weights.push_back(row_of<float>(topk_weights, row));
  });
}

std::optional<std::string> first_difference(const Trace& expected, const Trace& found) {
  if (expected.size() != found.size() || expected.empty()) {
    return fmt::format("{} positions and {}", expected.size(), found.size());
  }
  const size_t num_layers = expected.begin()->second.topk_idx.size();
  for (size_t layer = 0; layer < num_layers; ++layer) {
    for (const auto& [position, trace] : expected) {
      const auto it = found.find(position);
      if (it == found.end()) return fmt::format("position {} is missing", position);
      if (it->second.topk_idx.size() != num_layers) {
        return fmt::format("position {}: {} layers and {}", position, num_layers,
                           it->second.topk_idx.size());
      }
      if (layer == 0) {
        if (auto text = compare("embedding", trace.hidden[0], it->second.hidden[0])) {
          return fmt::format("position {}: {}", position, *text);
        }
      }
      if (auto text = compare_layer(trace, it->second, layer)) {
        return fmt::format("layer {}, position {}: {}", layer, position, *text);
      }
    }
  }
  for (const auto& [position, trace] : expected) {
    if (auto text = compare("logits", trace.logits, found.at(position).logits)) {
      return fmt::format("position {}: {}", position, *text);
    }
  }
  return std::nullopt;
}

}  // namespace beryl::bench
