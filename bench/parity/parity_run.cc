#include "bench/parity/parity_run.h"

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <utility>

#include "bench/model/model_source.h"
#include "bench/model/rank_runner.h"
#include "bench/parity/case_pictures.h"
#include "bench/parity/reference.h"
#include "kernels/cpu/cpu_ops.h"

namespace beryl::bench {

namespace {

using kernels::TensorView;

std::optional<size_t> index_of(const std::vector<int32_t>& positions, int position) {
  const auto it = std::lower_bound(positions.begin(), positions.end(), position);
  if (it == positions.end() || *it != position) return std::nullopt;
  return static_cast<size_t>(it - positions.begin());
}

std::span<const float> row_of(const TensorView& tensor, size_t row) {
  const auto width = static_cast<size_t>(tensor.shape[1]);
  return {tensor.f32() + row * width, width};
}

// Passes what the decoder shows on to the comparison, where the reference recorded it.
class CaseObserver final : public model::LayerObserver {
 public:
  CaseObserver(const ReferenceCase& reference, const RankRunner& runner, int num_layers,
               Comparison* comparison)
      : reference_(reference), runner_(runner), num_layers_(num_layers), comparison_(*comparison) {}

  void on_hidden(int stage, const TensorView& hidden) override {
    if (stage == num_layers_) return;  // recorded after the final norm
    for (size_t row = 0; row < runner_.rows().size(); ++row) {
      const auto index = index_of(reference_.hidden_positions, runner_.rows()[row].position);
      if (index) comparison_.add_hidden(stage, *index, row_of(hidden, row));
    }
  }

  void on_routing(int layer, const TensorView& topk_idx, const TensorView& topk_weights) override {
    const auto top_k = static_cast<size_t>(topk_idx.shape[1]);
    for (size_t row = 0; row < runner_.rows().size(); ++row) {
      const auto index = index_of(reference_.positions, runner_.rows()[row].position);
      if (!index) continue;
      comparison_.add_routing(layer, *index, {topk_idx.as<const int32_t>() + row * top_k, top_k},
                              row_of(topk_weights, row));
    }
  }

  void on_final_norm(const TensorView& normed) override {
    for (size_t i = 0; i < runner_.logits_rows().size(); ++i) {
      const auto row = static_cast<size_t>(runner_.logits_rows()[i]);
      const auto index = index_of(reference_.hidden_positions, runner_.rows()[row].position);
      if (index) comparison_.add_hidden(num_layers_, *index, row_of(normed, i));
    }
  }

 private:
  const ReferenceCase& reference_;
  const RankRunner& runner_;
  const int num_layers_;
  Comparison& comparison_;
};

// One rank of the check. All ranks walk through the same cases and steps.
class ParityRank {
 public:
  ParityRank(const ParityOptions& options, const model::ModelConfig& config,
             const weights::ModelWeights& weights, kernels::Ops& ops,
             comm::Communicator& communicator, RankRunner& runner)
      : options_(options),
        config_(config),
        weights_(weights),
        ops_(ops),
        communicator_(communicator),
        runner_(runner) {}

  Comparison run(const ReferenceCase& reference) {
    Comparison comparison(reference, config_);
    CaseObserver observer(reference, runner_, config_.num_hidden_layers, &comparison);
    std::vector<FeatureSpan> spans = find_spans(reference, config_);
    std::optional<model::Features> features;
    if (is_home() && !spans.empty()) {
      features = encode_pictures(reference, {config_, *weights_.vision(), ops_}, &comparison);
      int64_t first = 0;
      for (FeatureSpan& span : spans) {
        span.features = features->view().rows(first, span.features.shape[0]);
        first += span.features.shape[0];
      }
    }
    prefill(reference, spans, &observer, &comparison);
    decode(reference, &comparison);
    runner_.drop_all();
    return comparison;
  }

 private:
  void step(Segment segment, expert::StepMode mode, model::LayerObserver* observer) {
    GroupStep step(static_cast<size_t>(communicator_.size()));
    step[0].push_back(std::move(segment));
    const base::Status status = runner_.run(step, mode, observer);
    if (!status) throw std::runtime_error(status.error().message);
  }

  bool is_home() const { return communicator_.rank() == 0; }

  void prefill(const ReferenceCase& reference, const std::vector<FeatureSpan>& spans,
               model::LayerObserver* observer, Comparison* comparison) {
    const auto num_tokens = static_cast<int>(reference.input_ids.size());
    int end = 0;
    for (int begin = 0; begin < num_tokens; begin = end) {
      end = chunk_end(begin, options_.max_chunk, num_tokens, spans);
      Segment segment{
          .request_id = 0,
          .token_ids = {reference.input_ids.begin() + begin, reference.input_ids.begin() + end},
          .logits_offsets = {},
          .spans = spans};
      for (int position = begin; position < end; ++position) {
        const bool is_last = position + 1 == num_tokens && !reference.greedy.empty();
        if (is_last || index_of(reference.positions, position)) {
          segment.logits_offsets.push_back(position - begin);
        }
      }
      step(std::move(segment), expert::StepMode::kExact, is_home() ? observer : nullptr);
      if (is_home()) compare_logits(reference, comparison);
    }
  }

  void compare_logits(const ReferenceCase& reference, Comparison* comparison) {
    const int last = static_cast<int>(reference.input_ids.size()) - 1;
    for (size_t i = 0; i < runner_.logits_rows().size(); ++i) {
      const int position = runner_.rows()[static_cast<size_t>(runner_.logits_rows()[i])].position;
      const std::span<const float> logits = our_logits(static_cast<int>(i));
      const auto index = index_of(reference.positions, position);
      if (index) comparison->add_logits(*index, logits);
      if (position == last && !reference.greedy.empty()) {
        comparison->add_greedy(0, logits, options_.limits.min_margin);
      }
    }
  }

  // Teacher-forced: the recorded continuation is fed whatever we would have chosen.
  void decode(const ReferenceCase& reference, Comparison* comparison) {
    for (size_t i = 0; i + 1 < reference.greedy.size(); ++i) {
      step(sampled_segment(0, {reference.greedy[i]}), expert::StepMode::kPadded, nullptr);
      if (is_home()) comparison->add_greedy(i + 1, our_logits(0), options_.limits.min_margin);
    }
  }

  std::span<const float> our_logits(int i) {
    return {runner_.logits(i), static_cast<size_t>(config_.vocab_size)};
  }

  const ParityOptions& options_;
  const model::ModelConfig& config_;
  const weights::ModelWeights& weights_;
  kernels::Ops& ops_;
  comm::Communicator& communicator_;
  RankRunner& runner_;
};

std::unique_ptr<kernels::Ops> make_ops(const ParityOptions& options) {
  if (options.make_ops) return options.make_ops();
  return kernels::cpu::make_cpu_ops({.num_threads = options.num_threads, .isa = options.isa});
}

RunnerLimits runner_limits(const Reference& reference, const model::ModelConfig& config,
                           const ParityOptions& options) {
  size_t longest = 1;
  int max_rows = options.max_chunk;
  for (const ReferenceCase& one : reference.cases) {
    longest = std::max(longest, one.input_ids.size() + one.greedy.size());
    max_rows = std::max(max_rows, longest_span(find_spans(one, config)));
  }
  return {.max_rows = max_rows, .max_positions = static_cast<int>(longest), .max_requests = 1};
}

}  // namespace

ParityCounts run_parity(const ParityOptions& options, comm::Communicator& communicator,
                        const std::function<void(const std::string&)>& report) {
  const std::filesystem::path model_directory =
      options.model_directory.empty() ? options.directory : options.model_directory;
  const model::ModelConfig config = model::load_model_config(model_directory / "config.json");
  const Reference reference = load_reference(options.directory, config, options.cases);
  const expert::Placement placement =
      expert::Placement::contiguous(config.num_experts, communicator.size());
  const bool is_home = communicator.rank() == 0;
  const std::unique_ptr<kernels::Ops> ops = plant_fault(make_ops(options), options.fault);
  const weights::ModelWeights weights =
      load_weights(config, {model_directory, reference.dummy},
                   {.ops = ops.get(),
                    .local_experts = placement.local_experts(communicator.rank()),
                    .num_threads = options.num_threads,
                    .progress = is_home ? base::terminal_progress("weights", stderr) : nullptr});
  RankRunner runner({.config = config,
                     .weights = weights,
                     .ops = *ops,
                     .communicator = communicator,
                     .placement = placement},
                    runner_limits(reference, config, options));
  ParityRank rank(options, config, weights, *ops, communicator, runner);
  const bool is_bf16 = ops->activation_dtype() == kernels::DType::kBFloat16;
  ParityCounts counts;
  Bf16Score score;
  for (const ReferenceCase& one : reference.cases) {
    if (one.has_media && !config.vision) {
      ++counts.skipped;
      if (is_home) report(one.name + ": skipped (the model reads text only)");
      continue;
    }
    if (is_bf16 && !one.yardstick) {
      ++counts.skipped;
      if (is_home) report(one.name + ": skipped (no bfloat16 yardstick was recorded)");
      continue;
    }
    const Comparison comparison = rank.run(one);
    if (!is_home) continue;
    const bool passed = is_bf16 ? comparison.passed_bf16() : comparison.passed(options.limits);
    passed ? ++counts.passed : ++counts.failed;
    report(is_bf16 ? comparison.bf16_line() : comparison.line(options.limits));
    score.add(comparison.score());
    if (options.verbose) report(comparison.stages());
  }
  if (is_home && is_bf16 && score.num_rows > 0) {
    score.passed() ? ++counts.passed : ++counts.failed;
    report(score.line());
  }
  return counts;
}

}  // namespace beryl::bench
