// Pictures through the whole worker side against the same model driven by hand: the logits must
// have the same bits, whichever ranks encode and keep.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench/model/local_ranks.h"
#include "bench/model/model_source.h"
#include "bench/model/rank_runner.h"
#include "bench/parity/picture.h"
#include "kernels/cpu/cpu_ops.h"
#include "worker/engine/picture_store.h"
#include "worker/engine/step_executor.h"
#include "worker/service/rank_model.h"

namespace beryl::engine {
namespace {

const std::string kTiny = BERYL_SOURCE_DIR "/tests/data/tiny";
constexpr uint32_t kBlockSize = 16;
constexpr uint32_t kFirstSliding = 16;  // page; those before are for global layers

// Six and two soft tokens (19) of two pictures.
const std::vector<int32_t> kPrompt = {2,  300, 17, 19, 19, 19, 19,  19,  19, 21,
                                      40, 41,  17, 19, 19, 21, 302, 303, 304};
struct Span {
  uint32_t start = 0;
  uint32_t num_tokens = 0;
  unsigned height = 0;
  unsigned width = 0;
};
const std::vector<Span> kSpans = {{3, 6, 96, 144}, {13, 2, 48, 96}};

using Logits = std::vector<float>;  // [prompt, vocab_size]

// Keeps what the executor asks for: one row for each position of the prompt.
class RecordingPass final : public ForwardPass {
 public:
  explicit RecordingPass(model::Decoder& decoder) : decoder_(decoder) {}
  base::Status forward(const model::DecoderBatch& batch) override {
    return decoder_.forward(batch);
  }
  kernels::TensorView logits(int begin, int end) override {
    const kernels::TensorView view = decoder_.logits(begin, end);
    recorded.insert(recorded.end(), view.f32(), view.f32() + view.num_elements());
    return view;
  }
  int max_logits_rows() const override { return 4; }

  Logits recorded;

 private:
  model::Decoder& decoder_;
};

model::ModelConfig tiny_config() {
  return model::load_model_config(kTiny + "/config.json");
}

Logits direct_logits() {
  const model::ModelConfig config = tiny_config();
  Logits logits;
  bench::run_local_ranks(1, [&](comm::Communicator& communicator) {
    const auto placement = expert::Placement::contiguous(config.num_experts, 1);
    const auto weights = bench::load_weights(config, {.directory = kTiny, .dummy = {}},
                                             {.local_experts = placement.local_experts(0)});
    const auto ops = kernels::cpu::make_cpu_ops({});
    model::VisionTower tower({config, *weights.vision(), *ops}, 200);
    std::vector<media::RgbImage> drawn;
    std::vector<kernels::ImageView> views;
    for (const Span& span : kSpans) drawn.push_back(bench::draw_picture(span.height, span.width));
    for (const media::RgbImage& picture : drawn) views.push_back(bench::view_of(picture));
    const auto features = tower.encode(views);
    ASSERT_TRUE(features);
    bench::Segment segment = bench::scored_segment(0, kPrompt);
    int64_t first = 0;
    for (const Span& span : kSpans) {
      segment.spans.push_back(
          {static_cast<int>(span.start), features->view().rows(first, span.num_tokens)});
      first += span.num_tokens;
    }
    bench::RankRunner runner({.config = config,
                              .weights = weights,
                              .ops = *ops,
                              .communicator = communicator,
                              .placement = placement},
                             {});
    ASSERT_TRUE(runner.run({{segment}}, expert::StepMode::kExact));
    for (size_t i = 0; i < kPrompt.size(); ++i) {
      const float* row = runner.logits(static_cast<int>(i));
      logits.insert(logits.end(), row, row + config.vocab_size);
    }
  });
  return logits;
}

// Which rank encodes which picture, and which keeps both and runs the prompt.
struct Way {
  int num_ranks = 1;
  std::vector<uint32_t> sources;
  uint32_t home = 0;
  unsigned shift = 0;  // added to every pixel
};

wire::StepPlan plan_of(const Way& way, uint32_t rank) {
  wire::StepPlan plan;
  plan.set_epoch(1);
  plan.set_step(1);
  plan.set_mode(wire::STEP_MODE_EXACT);
  plan.set_placement_version(1);
  for (int r = 0; r < way.num_ranks; ++r) {
    plan.add_rank_rows(static_cast<uint32_t>(r) == way.home ? kPrompt.size() : 0);
  }
  for (size_t i = 0; i < kSpans.size(); ++i) {
    wire::FeatureJob& job = *plan.add_feature_jobs();
    job.mutable_key()->set_low(i + 1);
    job.set_num_tokens(kSpans[i].num_tokens);
    job.set_source(way.sources[i]);
    job.set_destination(way.home);
    job.set_encode(true);
  }
  if (rank != way.home) return plan;
  wire::Admission& admission = *plan.add_admissions();
  admission.set_num_prompt_tokens(static_cast<uint32_t>(kPrompt.size()));
  for (const int32_t id : kPrompt) admission.add_token_ids(static_cast<uint32_t>(id));
  admission.mutable_sampling()->set_top_p(1);
  admission.mutable_sampling()->set_repetition_penalty(1);
  admission.mutable_sampling()->set_num_top_logprobs(-1);
  admission.mutable_sampling()->set_num_prompt_logprobs(0);  // so that all logits are asked for
  for (size_t i = 0; i < kSpans.size(); ++i) {
    wire::PictureSpan& span = *admission.add_pictures();
    span.mutable_key()->set_low(i + 1);
    span.set_start(kSpans[i].start);
    span.set_num_tokens(kSpans[i].num_tokens);
  }
  wire::Row& row = *plan.add_rows();
  row.set_count(static_cast<uint32_t>(kPrompt.size()));
  row.set_sample(true);
  for (uint32_t block = 0; block * kBlockSize < kPrompt.size(); ++block) {
    row.add_new_global_blocks(block);
    row.add_new_sliding_blocks(kFirstSliding + block);
  }
  return plan;
}

void add_picture(const Span& span, uint64_t key, unsigned shift, PictureStore& store) {
  const media::RgbImage drawn = bench::draw_picture(span.height, span.width);
  Picture picture = {static_cast<int>(span.height), static_cast<int>(span.width), {}};
  for (const uint8_t pixel : drawn.pixels) {
    picture.pixels.push_back(static_cast<char>(static_cast<uint8_t>(pixel + shift)));
  }
  ASSERT_TRUE(store.add({0, key}, std::move(picture)));
}

Logits executor_logits(const Way& way) {
  const model::ModelConfig config = tiny_config();
  service::WorkerOptions options;
  options.model_dir = kTiny;
  options.block_size = kBlockSize;
  options.max_num_batched_tokens = 64;
  options.kv_cache_memory = 8 << 20;
  Logits logits;
  bench::run_local_ranks(way.num_ranks, [&](comm::Communicator& communicator) {
    const auto rank = static_cast<uint32_t>(communicator.rank());
    const auto launch = service::agree_on_launch(options, config, communicator, way.num_ranks);
    service::RankModel model(options, config, launch, communicator, 1);
    const auto facts = service::make_registration(options, config, launch, communicator, "cpu");
    PictureStore store(std::chrono::milliseconds(10'000));
    for (size_t i = 0; i < kSpans.size(); ++i) {
      if (way.sources[i] == rank) add_picture(kSpans[i], i + 1, way.shift, store);
    }
    RankFeatureJobs jobs({.tower = *model.vision_tower(),
                          .ops = model.ops(),
                          .communicator = communicator,
                          .pictures = store,
                          .hidden_size = config.hidden_size});
    RecordingPass pass(model.decoder());
    StepExecutor executor(pass, model.ops(),
                          {.epoch = 1,
                           .num_ranks = facts.num_ranks(),
                           .model = facts.model(),
                           .cache = facts.cache()},
                          rank, &jobs);
    const auto result = executor.execute(plan_of(way, rank));
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(store.num_bytes(), 0U);
    if (rank == way.home) logits = std::move(pass.recorded);
  });
  return logits;
}

TEST(PictureLogitsTest, TheWorkerComputesWhatTheModelDrivenByHandDoes) {
  const Logits expected = direct_logits();
  ASSERT_EQ(expected.size(), kPrompt.size() * 1024);
  EXPECT_EQ(executor_logits({.num_ranks = 1, .sources = {0, 0}, .home = 0}), expected);
  // Both are made elsewhere; one is.
  EXPECT_EQ(executor_logits({.num_ranks = 2, .sources = {0, 0}, .home = 1}), expected);
  EXPECT_EQ(executor_logits({.num_ranks = 2, .sources = {1, 0}, .home = 0}), expected);
  EXPECT_EQ(executor_logits({.num_ranks = 4, .sources = {3, 1}, .home = 2}), expected);
}

TEST(PictureLogitsTest, OtherPixelsGiveOtherLogits) {
  const Way way = {.num_ranks = 2, .sources = {0, 1}, .home = 1, .shift = 0};
  Way shifted = way;
  shifted.shift = 64;
  EXPECT_NE(executor_logits(way), executor_logits(shifted));
}

}  // namespace
}  // namespace beryl::engine
