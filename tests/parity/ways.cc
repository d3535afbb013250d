#include "tests/parity/ways.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <stdexcept>

#include "bench/model/model_source.h"
#include "bench/model/rank_runner.h"
#include "bench/parity/picture.h"
#include "kernels/cpu/cpu_ops.h"
#include "worker/model/vision_tower.h"

namespace beryl::bench {

namespace {

constexpr int kSubject = 0;  // request id of the traced request
constexpr int kFirstMate = 100;
constexpr int kMateTokens = 3;
constexpr int kMaxRows = 128;
constexpr int64_t kMaxPatches = 1000;

// Tokens of batch-mates: any, but not those of the subject.
std::vector<int32_t> mate_tokens(int mate, int step, int count, int vocab_size) {
  std::vector<int32_t> ids;
  for (int i = 0; i < count; ++i)
    ids.push_back((mate * 7919 + step * 104729 + i * 31) % vocab_size);
  return ids;
}

class WayRun {
 public:
  WayRun(const SubjectModel& subject, const std::vector<FeatureSpan>& spans, const Way& way,
         int num_ranks, int vocab_size)
      : subject_(subject),
        spans_(spans),
        way_(way),
        num_ranks_(num_ranks),
        vocab_size_(vocab_size),
        home_(way.home_rank % num_ranks),
        num_prefilled_(std::max(way.num_prefilled, spans.empty() ? 0 : spans.back().end())) {}

  // The next step of the group; empty when the request is done.
  GroupStep next() {
    const auto num_tokens = static_cast<int>(subject_.token_ids.size());
    if (num_done_ == num_tokens) return {};
    const int end = num_done_ < num_prefilled_
                        ? chunk_end(num_done_, way_.chunk, num_prefilled_, spans_)
                        : num_done_ + 1;
    GroupStep step(static_cast<size_t>(num_ranks_));
    const auto tokens = subject_.token_ids.begin();
    Segment mine = scored_segment(kSubject, {tokens + num_done_, tokens + end});
    mine.spans = spans_;
    add_mates(&step, 0);
    step[static_cast<size_t>(home_)].push_back(mine);
    add_mates(&step, 1);
    num_done_ = end;
    ++num_steps_;
    return step;
  }

 private:
  // One mate before and one after the subject on every rank but every third; sizes change by step.
  void add_mates(GroupStep* step, int side) {
    if (!way_.with_mates) return;
    for (int rank = 0; rank < num_ranks_; ++rank) {
      const int mate = 2 * rank + side;
      if ((mate + num_steps_) % 3 == 0) continue;
      const int count = 1 + (mate + num_steps_) % kMateTokens;
      (*step)[static_cast<size_t>(rank)].push_back(
          scored_segment(kFirstMate + mate, mate_tokens(mate, num_steps_, count, vocab_size_)));
    }
  }

  const SubjectModel& subject_;
  const std::vector<FeatureSpan>& spans_;
  const Way& way_;
  const int num_ranks_;
  const int vocab_size_;
  const int home_;
  const int num_prefilled_;
  int num_done_ = 0;
  int num_steps_ = 0;
};

void record_logits(RankRunner& runner, int vocab_size, Trace* trace) {
  for (size_t i = 0; i < runner.logits_rows().size(); ++i) {
    const RowPlace& place = runner.rows()[static_cast<size_t>(runner.logits_rows()[i])];
    if (place.request_id != kSubject) continue;
    const float* logits = runner.logits(static_cast<int>(i));
    (*trace)[place.position].logits.assign(logits, logits + vocab_size);
  }
}

Trace trace_way(WayRun run, const Way& way, int vocab_size, RankRunner& runner) {
  Trace trace;
  TraceObserver observer(runner, kSubject, &trace);
  for (GroupStep step = run.next(); !step.empty(); step = run.next()) {
    const base::Status status = runner.run(step, way.mode, &observer);
    if (!status) throw std::runtime_error(status.error().message);
    record_logits(runner, vocab_size, &trace);
  }
  runner.drop_all();
  return trace;
}

// On every rank, which is part of the check: the home rank differs from way to way.
std::vector<FeatureSpan> encode_subject(const std::vector<SubjectPicture>& pictures,
                                        const model::ModelConfig& config,
                                        const weights::ModelWeights& weights, kernels::Ops& ops,
                                        std::optional<model::Features>* features) {
  std::vector<FeatureSpan> spans;
  if (pictures.empty()) return spans;
  model::VisionTower tower({config, *weights.vision(), ops}, kMaxPatches);
  std::vector<media::RgbImage> drawn;
  std::vector<kernels::ImageView> views;
  for (const SubjectPicture& picture : pictures) {
    drawn.push_back(draw_picture(picture.height, picture.width));
    views.push_back(view_of(drawn.back()));
  }
  auto encoded = tower.encode(views);
  if (!encoded) throw std::runtime_error(encoded.error().message);
  features->emplace(*std::move(encoded));
  int64_t first = 0;
  for (size_t i = 0; i < pictures.size(); ++i) {
    const int count = *tower.num_soft_tokens(views[i].height, views[i].width);
    spans.push_back({pictures[i].position, (*features)->view().rows(first, count)});
    first += count;
  }
  return spans;
}

}  // namespace

std::vector<Way> all_ways(int num_tokens) {
  using expert::StepMode;
  const int half = num_tokens / 2;
  return {
      {.name = "one piece", .num_prefilled = num_tokens, .chunk = num_tokens},
      {.name = "chunks of 1", .num_prefilled = num_tokens, .chunk = 1, .home_rank = 1},
      {.name = "chunks of 7", .num_prefilled = num_tokens, .chunk = 7},
      {.name = "chunks of 16", .num_prefilled = num_tokens, .chunk = 16, .home_rank = 5},
      {.name = "decode", .num_prefilled = half, .chunk = half, .mode = StepMode::kPadded},
      {.name = "decode with mates",
       .num_prefilled = half,
       .chunk = 7,
       .with_mates = true,
       .home_rank = 3,
       .mode = StepMode::kPadded},
      {.name = "chunks of 16 with mates",
       .num_prefilled = num_tokens,
       .chunk = 16,
       .with_mates = true,
       .home_rank = 1},
      {.name = "one piece, padded",
       .num_prefilled = num_tokens,
       .chunk = num_tokens,
       .with_mates = true,
       .mode = StepMode::kPadded},
  };
}

std::vector<Trace> compute_traces(const SubjectModel& subject, const std::vector<Way>& ways,
                                  const ComputeOptions& options, comm::Communicator& communicator) {
  const model::ModelConfig config = model::load_model_config(subject.directory + "/config.json");
  const expert::Placement placement =
      expert::Placement::contiguous(config.num_experts, communicator.size());
  const weights::ModelWeights weights =
      load_weights(config, {.directory = subject.directory, .dummy = {.seed = subject.seed}},
                   {.local_experts = placement.local_experts(communicator.rank())});
  const std::unique_ptr<kernels::Ops> ops = plant_fault(
      kernels::cpu::make_cpu_ops({.num_threads = options.num_threads, .isa = options.isa}),
      options.fault);
  std::optional<model::Features> features;
  const std::vector<FeatureSpan> spans =
      encode_subject(subject.pictures, config, weights, *ops, &features);
  const RunnerParts parts{.config = config,
                          .weights = weights,
                          .ops = *ops,
                          .communicator = communicator,
                          .placement = placement};
  // Small blocks and rounds: borders fall inside the request, exact mode needs several rounds.
  RunnerLimits limits{.max_rows = kMaxRows,
                      .max_positions = 400,
                      .max_requests = 8,
                      .block_size = 8,
                      .max_logits_rows = 16,
                      .round_capacity = 12};
  RankRunner exact(parts, limits);
  limits.round_capacity = kMaxRows;
  RankRunner padded(parts, limits);
  std::vector<Trace> traces;
  for (const Way& way : ways) {
    traces.push_back(trace_way({subject, spans, way, communicator.size(), config.vocab_size}, way,
                               config.vocab_size,
                               way.mode == expert::StepMode::kExact ? exact : padded));
  }
  return traces;
}

}  // namespace beryl::bench
