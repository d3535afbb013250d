// Comparison: how far one case of ours is from the reference, gathered row by row.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "bench/parity/reference.h"

namespace beryl::bench {

struct ParityLimits {
  double max_logit_difference = 1e-3;
  double max_weight_difference = 1e-3;  // of routing weights
  double max_feature_difference = 1e-3;
  int max_routing_flips = 0;
  float min_margin = 1e-3f;  // below it a greedy choice may differ
};

// What a bfloat16 engine is judged by, summed over cases so that few rows decide little.
struct Bf16Score {
  double kl_sum = 0;
  double flips = 0;
  double hidden_sum = 0;   // of relative errors, all stages
  double feature_sum = 0;  // of relative errors, of cases with features
  double num_rows = 0;
  double num_routed = 0;
  double num_hidden = 0;
  double num_featured = 0;  // cases with features
  // The same sums if every row were as far off as the yardstick's mean.
  double kl_yardstick = 0;
  double flips_yardstick = 0;
  double hidden_yardstick = 0;
  double feature_yardstick = 0;

  void add(const Bf16Score& other);
  // Every mean at most 1.1 times the yardstick's.
  bool passed() const;
  std::string line() const;
};

class Comparison {
 public:
  Comparison(const ReferenceCase& reference, const model::ModelConfig& config)
      : reference_(reference),
        config_(config),
        hidden_errors_(static_cast<size_t>(config.num_hidden_layers) + 1) {}

  // `row` counts the recorded positions; logits [vocab_size].
  void add_logits(size_t row, std::span<const float> logits);
  // topk of one layer and row, in any order.
  void add_routing(int layer, size_t row, std::span<const int32_t> topk_idx,
                   std::span<const float> topk_weights);
  // `hidden_row` counts the positions with hidden states. stage: 0 embedding ... layers.
  void add_hidden(int stage, size_t hidden_row, std::span<const float> hidden);
  // Greedy choice number i, from the logits after i forced tokens.
  void add_greedy(size_t i, std::span<const float> logits, float min_margin);

  // Features of all pictures [soft tokens, H].
  void add_features(std::span<const float> features);
  // Patches of all pictures as the tower reads them [patches, 3 * patch_size^2], numbers in [-1,
  // 1].
  void add_patches(std::span<const float> patches);
  // (column, row) of all patches.
  void add_patch_positions(std::span<const int32_t> positions);

  bool passed(const ParityLimits& limits) const;
  // "short: ok, max logit difference 2.1e-06, ..." - one line.
  std::string line(const ParityLimits& limits) const;
  // For a bfloat16 engine: every recorded row was compared, no logit is further off than 1.5 times
  // the yardstick's largest difference. Means are judged over all cases: score().
  bool passed_bf16() const;
  std::string bf16_line() const;
  Bf16Score score() const;
  // "  hidden error by stage: 0 1.2e-7 ..."
  std::string stages() const;

 private:
  bool is_complete() const;
  Bf16Yardstick yardstick() const;
  double feature_error() const;  // ||difference|| / ||features||
  std::string facts() const;
  void add_full_row(size_t row, std::span<const float> logits);
  void add_sampled_row(size_t row, std::span<const float> logits);
  void add_difference(float expected, float found);

  const ReferenceCase& reference_;
  const model::ModelConfig& config_;
  size_t num_rows_ = 0;
  size_t num_routed_ = 0;
  size_t num_hidden_ = 0;
  double hidden_error_sum_ = 0;
  double max_logit_difference_ = 0;
  double max_weight_difference_ = 0;
  size_t num_features_ = 0;  // numbers compared
  double max_feature_difference_ = 0;
  double feature_squares_ = 0;             // of recorded features
  double feature_difference_squares_ = 0;  // of differences from them
  bool patches_differ_ = false;
  double kl_sum_ = 0;
  int routing_flips_ = 0;
  std::vector<double> hidden_errors_;  // [layers + 1] largest ||difference|| / ||reference||
  int greedy_equal_ = 0;
  int greedy_wrong_ = 0;
  int greedy_near_ties_ = 0;  // different, but within the margin
};

}  // namespace beryl::bench
