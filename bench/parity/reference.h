// Reference: recorded results of another implementation, from a folder with cases.json and
// expected.safetensors. Two formats exist: one with all logits of every position (`cases` is a
// list; of chosen positions where a case names them), one with the largest logits and a sample of
// chosen positions (`cases` is an object).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "bench/parity/picture.h"
#include "worker/model/model_config.h"
#include "worker/weights/model_weights.h"

namespace beryl::bench {

// How far the reference's own implementation in bfloat16 is from it: what an engine that computes
// in bfloat16 is judged by.
struct Bf16Yardstick {
  double kl_mean = 0;
  double logit_max = 0;               // largest logit difference
  double flip_share = 0;              // of (row, layer) pairs with another set of experts
  std::vector<double> hidden_errors;  // [layers + 1] mean relative error of the hidden state
  double feature_error = 0;           // ||difference|| / ||features||; 0 without pictures
};

struct ReferenceCase {
  std::string name;
  std::vector<int32_t> input_ids;
  bool has_media = false;
  // Pictures in order; input_ids has a run of placeholders for each. For a model without a vision
  // tower nothing but the name of such a case is read.
  std::vector<media::RgbImage> pictures;
  std::vector<int32_t> positions;         // recorded positions, ascending
  std::vector<int32_t> hidden_positions;  // those with hidden states
  std::vector<int32_t> greedy;            // continuation; may be empty
  std::vector<float> greedy_margin;

  // Rows below are those of `positions` (P), in order. Hidden states and routing may be missing as
  // a whole.
  std::vector<float> logits;  // [P, vocab_size]; empty in the second format, then:
  int num_top = 0;
  std::vector<float> top_logits;  // [P, num_top] the largest
  std::vector<int32_t> top_ids;   // [P, num_top]
  std::vector<float> logsumexp;   // [P]
  int num_sampled = 0;
  std::vector<float> sampled_logits;  // [P, num_sampled] of ids 0, stride, 2 * stride ...

  std::vector<float> hidden;        // [layers + 1, hidden_positions, H], the last after the norm
  std::vector<int32_t> topk_idx;    // [layers, P, top_k]
  std::vector<float> topk_weights;  // [layers, P, top_k]

  // Of all soft tokens in order, every feature_stride-th. [*, H]; empty where none were recorded
  int feature_stride = 1;
  std::vector<float> features;
  // Of all patches of the pictures, where recorded: numbers in [0, 1], and (column, row).
  std::vector<float> patches;            // [patches, 3 * patch_size^2]
  std::vector<int32_t> patch_positions;  // [patches, 2]

  std::optional<Bf16Yardstick> yardstick;
};

struct Reference {
  std::vector<ReferenceCase> cases;
  weights::DummySource dummy;  // the weights, where the folder holds none
};

// Throws std::runtime_error with one line that names file and what is wrong. An empty selection
// means all cases.
Reference load_reference(const std::filesystem::path& directory, const model::ModelConfig& config,
                         const std::vector<std::string>& selection);

}  // namespace beryl::bench
