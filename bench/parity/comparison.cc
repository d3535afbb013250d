#include "bench/parity/comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace beryl::bench {

namespace {

constexpr double kMeanFactor = 1.1;  // of the yardstick
constexpr double kMaxFactor = 1.5;

double log_sum_exp(std::span<const float> logits) {
  const float peak = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - peak);
  return peak + std::log(sum);
}

// NaN must never pass as small.
void raise(double* maximum, double value) {
  if (!(value <= *maximum)) {
    *maximum = std::isnan(value) ? std::numeric_limits<double>::infinity() : value;
  }
}

}  // namespace

void Comparison::add_difference(float expected, float found) {
  raise(&max_logit_difference_, std::abs(static_cast<double>(expected) - found));
}

void Comparison::add_logits(size_t row, std::span<const float> logits) {
  ++num_rows_;
  if (reference_.logits.empty()) {
    add_sampled_row(row, logits);
  } else {
    add_full_row(row, logits);
  }
}

void Comparison::add_full_row(size_t row, std::span<const float> logits) {
  const std::span<const float> expected =
      std::span(reference_.logits).subspan(row * logits.size(), logits.size());
  const double log_p = log_sum_exp(expected);
  const double log_q = log_sum_exp(logits);
  for (size_t i = 0; i < logits.size(); ++i) {
    add_difference(expected[i], logits[i]);
    const double p = expected[i] - log_p;
    kl_sum_ += std::exp(p) * (p - (logits[i] - log_q));
  }
}

// KL over the largest logits exactly, the rest estimated from the sampled columns.
void Comparison::add_sampled_row(size_t row, std::span<const float> logits) {
  const auto num_top = static_cast<size_t>(reference_.num_top);
  const auto num_sampled = static_cast<size_t>(reference_.num_sampled);
  const auto top_logits = std::span(reference_.top_logits).subspan(row * num_top, num_top);
  const auto top_ids = std::span(reference_.top_ids).subspan(row * num_top, num_top);
  const auto sampled = std::span(reference_.sampled_logits).subspan(row * num_sampled, num_sampled);
  const double log_p = reference_.logsumexp[row];
  const double log_q = log_sum_exp(logits);
  double kl = 0;
  double rest_p = 1;
  double rest_q = 1;
  for (size_t i = 0; i < num_top; ++i) {
    const float found = logits[static_cast<size_t>(top_ids[i])];
    add_difference(top_logits[i], found);
    const double p = std::exp(top_logits[i] - log_p);
    const double q = std::exp(found - log_q);
    kl += p * (top_logits[i] - log_p - (found - log_q));
    rest_p -= p;
    rest_q -= q;
  }
  kl += rest_p - rest_q;
  const size_t stride = logits.size() / num_sampled;
  double sampled_kl = 0;
  for (size_t i = 0; i < num_sampled; ++i) {
    const float found = logits[i * stride];
    add_difference(sampled[i], found);
    const auto id = static_cast<int32_t>(i * stride);
    if (std::find(top_ids.begin(), top_ids.end(), id) != top_ids.end()) continue;
    const double p = std::exp(sampled[i] - log_p);
    const double q = std::exp(found - log_q);
    sampled_kl += p * (sampled[i] - log_p - (found - log_q)) - p + q;
  }
  kl_sum_ += kl + static_cast<double>(stride) * sampled_kl;
}

void Comparison::add_routing(int layer, size_t row, std::span<const int32_t> topk_idx,
                             std::span<const float> topk_weights) {
  if (reference_.topk_idx.empty()) return;
  ++num_routed_;
  const size_t top_k = topk_idx.size();
  const size_t begin = (static_cast<size_t>(layer) * reference_.positions.size() + row) * top_k;
  const auto expected_idx = std::span(reference_.topk_idx).subspan(begin, top_k);
  bool flipped = false;
  for (size_t i = 0; i < top_k; ++i) {
    const auto it = std::find(expected_idx.begin(), expected_idx.end(), topk_idx[i]);
    if (it == expected_idx.end()) {
      flipped = true;
      continue;
    }
    const float expected =
        reference_.topk_weights[begin + static_cast<size_t>(it - expected_idx.begin())];
    raise(&max_weight_difference_, std::abs(static_cast<double>(expected) - topk_weights[i]));
  }
  if (flipped) ++routing_flips_;
}

void Comparison::add_hidden(int stage, size_t hidden_row, std::span<const float> hidden) {
  ++num_hidden_;
  const size_t begin =
      (static_cast<size_t>(stage) * reference_.hidden_positions.size() + hidden_row) *
      hidden.size();
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < hidden.size(); ++i) {
    const double expected = reference_.hidden[begin + i];
    difference += (expected - hidden[i]) * (expected - hidden[i]);
    norm += expected * expected;
  }
  const double error = std::sqrt(difference / std::max(norm, 1e-30));
  raise(&hidden_errors_[static_cast<size_t>(stage)], error);
  hidden_error_sum_ += error;
}

void Comparison::add_greedy(size_t i, std::span<const float> logits, float min_margin) {
  const auto choice = static_cast<int32_t>(
      std::distance(logits.begin(), std::max_element(logits.begin(), logits.end())));
  if (choice == reference_.greedy[i]) {
    ++greedy_equal_;
  } else if (reference_.greedy_margin[i] > min_margin) {
    ++greedy_wrong_;
  } else {
    ++greedy_near_ties_;
  }
}

void Comparison::add_features(std::span<const float> features) {
  const auto width = static_cast<size_t>(config_.hidden_size);
  const size_t stride = width * static_cast<size_t>(reference_.feature_stride);
  for (size_t begin = 0; begin < features.size(); begin += stride) {
    for (size_t i = 0; i < width && num_features_ < reference_.features.size(); ++i) {
      const double expected = reference_.features[num_features_++];
      const double difference = std::abs(expected - features[begin + i]);
      raise(&max_feature_difference_, difference);
      feature_squares_ += expected * expected;
      feature_difference_squares_ += difference * difference;
    }
  }
}

// Not a single level of a pixel may differ: one moves features by a hundredth.
void Comparison::add_patches(std::span<const float> patches) {
  const auto is_equal = [](float found, float recorded) { return found == 2 * (recorded - 0.5f); };
  patches_differ_ |= !std::equal(patches.begin(), patches.end(), reference_.patches.begin(),
                                 reference_.patches.end(), is_equal);
}

void Comparison::add_patch_positions(std::span<const int32_t> positions) {
  patches_differ_ |=
      !std::equal(positions.begin(), positions.end(), reference_.patch_positions.begin(),
                  reference_.patch_positions.end());
}

// Rows that were never compared count as a failure: an empty run must not look like a good one.
bool Comparison::is_complete() const {
  const auto num_layers = static_cast<size_t>(config_.num_hidden_layers);
  const size_t num_routed = reference_.topk_idx.empty() ? 0 : reference_.positions.size();
  return num_rows_ == reference_.positions.size() && num_routed_ == num_routed * num_layers &&
         num_features_ == reference_.features.size() && !patches_differ_ &&
         num_hidden_ == reference_.hidden_positions.size() * (num_layers + 1);
}

bool Comparison::passed(const ParityLimits& limits) const {
  return is_complete() && max_feature_difference_ <= limits.max_feature_difference &&
         static_cast<size_t>(greedy_equal_ + greedy_near_ties_) == reference_.greedy.size() &&
         greedy_wrong_ == 0 && max_logit_difference_ <= limits.max_logit_difference &&
         max_weight_difference_ <= limits.max_weight_difference &&
         routing_flips_ <= limits.max_routing_flips;
}

Bf16Yardstick Comparison::yardstick() const {
  return reference_.yardstick.value_or(Bf16Yardstick{});
}

double Comparison::feature_error() const {
  return std::sqrt(feature_difference_squares_ / std::max(feature_squares_, 1e-30));
}

bool Comparison::passed_bf16() const {
  return is_complete() && max_logit_difference_ <= kMaxFactor * yardstick().logit_max;
}

Bf16Score Comparison::score() const {
  const Bf16Yardstick yardstick = this->yardstick();
  const auto rows = static_cast<double>(num_rows_);
  Bf16Score score;
  score.kl_sum = kl_sum_;
  score.flips = routing_flips_;
  score.hidden_sum = hidden_error_sum_;
  score.num_rows = rows;
  score.num_routed = static_cast<double>(num_routed_);
  score.num_hidden = static_cast<double>(num_hidden_);
  if (!reference_.features.empty()) {
    score.num_featured = 1;
    score.feature_sum = feature_error();
    score.feature_yardstick = yardstick.feature_error;
  }
  score.kl_yardstick = rows * yardstick.kl_mean;
  score.flips_yardstick = score.num_routed * yardstick.flip_share;
  for (const double error : yardstick.hidden_errors) {
    score.hidden_yardstick += error * static_cast<double>(reference_.hidden_positions.size());
  }
  return score;
}

void Bf16Score::add(const Bf16Score& other) {
  kl_sum += other.kl_sum;
  flips += other.flips;
  hidden_sum += other.hidden_sum;
  feature_sum += other.feature_sum;
  num_rows += other.num_rows;
  num_routed += other.num_routed;
  num_hidden += other.num_hidden;
  num_featured += other.num_featured;
  kl_yardstick += other.kl_yardstick;
  flips_yardstick += other.flips_yardstick;
  hidden_yardstick += other.hidden_yardstick;
  feature_yardstick += other.feature_yardstick;
}

// Written so that a NaN fails.
bool Bf16Score::passed() const {
  return kl_sum <= kMeanFactor * kl_yardstick && flips <= kMeanFactor * flips_yardstick &&
         hidden_sum <= kMeanFactor * hidden_yardstick &&
         feature_sum <= kMeanFactor * feature_yardstick;
}

std::string Bf16Score::line() const {
  const auto mean = [](double sum, double count) { return count > 0 ? sum / count : 0.0; };
  return fmt::format(
      "bfloat16, means over all cases and their yardstick: {}, KL {:.2e} of {:.2e}, routing flips "
      "{:.1f} % of {:.1f} %, hidden error {:.2e} of {:.2e}, feature error {:.2e} of {:.2e}",
      passed() ? "ok" : "FAILED", mean(kl_sum, num_rows), mean(kl_yardstick, num_rows),
      100 * mean(flips, num_routed), 100 * mean(flips_yardstick, num_routed),
      mean(hidden_sum, num_hidden), mean(hidden_yardstick, num_hidden),
      mean(feature_sum, num_featured), mean(feature_yardstick, num_featured));
}

std::string Comparison::line(const ParityLimits& limits) const {
  return fmt::format("{}: {}, {}", reference_.name, passed(limits) ? "ok" : "FAILED", facts());
}

std::string Comparison::bf16_line() const {
  return fmt::format("{}: {}, {}", reference_.name, passed_bf16() ? "ok" : "FAILED", facts());
}

std::string Comparison::facts() const {
  const double mean_kl = num_rows_ == 0 ? 0 : kl_sum_ / static_cast<double>(num_rows_);
  const auto worst = std::max_element(hidden_errors_.begin(), hidden_errors_.end());
  std::string pictures;
  if (reference_.has_media) {
    pictures = fmt::format(", patches {}", patches_differ_              ? "DIFFER"
                                           : reference_.patches.empty() ? "not recorded"
                                                                        : "equal");
    if (!reference_.features.empty()) {
      pictures += fmt::format(", max feature difference {:.2e}", max_feature_difference_);
    }
  }
  return fmt::format(
      "max logit difference {:.2e}, mean KL {:.2e}, routing flips {} of {}, routing weight "
      "difference {:.1e}, hidden error {:.1e} (stage {}), greedy {}/{}{}",
      max_logit_difference_, mean_kl, routing_flips_, num_routed_, max_weight_difference_, *worst,
      worst - hidden_errors_.begin(), greedy_equal_, reference_.greedy.size(), pictures);
}

std::string Comparison::stages() const {
  return fmt::format("  hidden error by stage: {:.1e}", fmt::join(hidden_errors_, " "));
}

}  // namespace beryl::bench
