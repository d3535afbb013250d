// Repeated steps: an attention block whose launches are kept, while tokens, contexts and block
// tables change in memory, against the same block launched kernel by kernel, bit for bit.
#include <algorithm>
#include <memory>
#include <numeric>
#include <string>

#include "kernels/cuda/step_graphs.h"
#include "kernels/device_error.h"
#include "tests/kernels/cuda/device_test.h"

namespace beryl::kernels {
namespace {

constexpr int kRows = 3;  // one of each segment
constexpr int kVocab = 50;
constexpr int kHidden = 64;
constexpr int kBlockSize = 16;
constexpr int kMaxBlocks = 40;  // of a segment
constexpr float kEps = 1e-6f;

AttentionShape attention_shape() {
  static const std::vector<float> inv_freq(128, 0.01f);
  return {2, 1, 256, 256, 1024, kEps, inv_freq.data()};
}

// What a step finds in memory.
struct Contents {
  std::vector<int32_t> ids;
  std::vector<int32_t> positions;
  std::vector<int32_t> block_ids;  // [kRows * kMaxBlocks]
};

Contents make_contents(int first_position, Random& random) {
  Contents contents;
  for (int row = 0; row < kRows; ++row) {
    contents.ids.push_back(random.below(kVocab));
    contents.positions.push_back(first_position + 7 * row);
  }
  contents.block_ids.resize(kRows * kMaxBlocks);
  std::iota(contents.block_ids.begin(), contents.block_ids.end(), 0);
  for (size_t i = contents.block_ids.size(); i > 1; --i) {
    std::swap(contents.block_ids[i - 1],
              contents.block_ids[static_cast<size_t>(random.below(static_cast<int>(i)))]);
  }
  return contents;
}

// Embedding, attention with its cache, output projection: what a layer launches, on one device.
class Block {
 public:
  Block(Ops& ops, Random random)
      : ops_(ops),
        table_(ops, random.weights(kVocab, kHidden, 0.2f)),
        norm_(ops, random.weights(1, kHidden, 0.2f)),
        q_proj_(ops, random.weights(512, kHidden, 0.2f)),
        k_proj_(ops, random.weights(256, kHidden, 0.2f)),
        v_proj_(ops, random.weights(256, kHidden, 0.2f)),
        head_norm_(ops, random.weights(1, 256, 0.2f)),
        o_proj_(ops, random.weights(kHidden, 512, 0.2f)),
        cache_(ops, DType::kBFloat16, kRows * kMaxBlocks, 2 * 256 * kBlockSize),
        residual_(ops, DType::kFloat32, kRows, kHidden),
        normed_(ops, DType::kBFloat16, kRows, kHidden),
        q_(ops, DType::kBFloat16, kRows, 512),
        attended_(ops, DType::kBFloat16, kRows, 512),
        projected_(ops, DType::kFloat32, kRows, kHidden),
        ids_(ops, std::vector<int32_t>(kRows)),
        positions_(ops, std::vector<int32_t>(kRows)),
        starts_(ops, counting(1)),
        segments_(ops, counting(1)),
        block_ids_(ops, std::vector<int32_t>(kRows * kMaxBlocks)),
        offsets_(ops, counting(kMaxBlocks)),
        first_block_(ops, std::vector<int32_t>(kRows)) {}

  void set(const Contents& contents) {
    upload(ids_, contents.ids);
    upload(positions_, contents.positions);
    upload(block_ids_, contents.block_ids);
  }

  void launch(int32_t max_position) {
    ++num_launched_;
    BatchView batch;
    batch.num_rows = batch.num_segments = kRows;
    batch.positions = positions_.data();
    batch.query_start_loc = starts_.data();
    batch.row_segments = segments_.data();
    batch.max_segment_rows = 1;
    batch.max_position = max_position;
    batch.sliding_blocks = {block_ids_.data(), offsets_.data(), first_block_.data(), kBlockSize};
    const AttentionShape shape = attention_shape();
    const AttentionWeights weights = {q_proj_.view(), k_proj_.view(), v_proj_.view(),
                                      head_norm_.vector_view(), head_norm_.vector_view()};
    ops_.embed(table_.view(), ids_.data(), 2.0f, residual_.view());
    ops_.rms_norm(residual_.view(), norm_.vector_view(), kEps, normed_.view());
    ops_.attention_inputs(shape, weights, normed_.view(), batch, {cache_.view()}, q_.view());
    ops_.attention(shape, q_.view(), batch, {cache_.view()}, attended_.view());
    ops_.linear(attended_.view(), o_proj_.view(), projected_.view());
    ops_.add_rms_norm(projected_.view(), norm_.vector_view(), kEps, residual_.view());
  }

  void run(const StepKey& key, int32_t max_position) {
    ops_.run_repeatable(key, [&] { launch(max_position); });
  }

  std::vector<float> result() const { return residual_.floats().data; }
  int num_launched() const { return num_launched_; }
  Ops& ops() { return ops_; }
  // Makes work space of the operations grow.
  void launch_more_rows(int num_rows) {
    const std::vector<int32_t> numbers(static_cast<size_t>(num_rows));
    const DeviceTensor x(ops_, DType::kFloat32, num_rows, kHidden);
    const DeviceTensor idx(ops_, DType::kInt32, num_rows, 2);
    const DeviceTensor weights(ops_, DType::kFloat32, num_rows, 2);
    const DeviceTensor proj(ops_, DType::kBFloat16, 4, kHidden);
    const DeviceTensor scale(ops_, DType::kBFloat16, 1, kHidden);
    const DeviceTensor expert_scale(ops_, DType::kBFloat16, 1, 4);
    ops_.route({proj.view(), scale.vector_view(), expert_scale.vector_view()}, x.view(), kEps,
               idx.view(), weights.view());
    (void)x.floats();
  }

 private:
  static std::vector<int32_t> counting(int32_t step) {
    std::vector<int32_t> values(kRows + 1);
    for (int i = 0; i <= kRows; ++i) values[static_cast<size_t>(i)] = i * step;
    return values;
  }
  void upload(const DeviceArray<int32_t>& to, const std::vector<int32_t>& values) {
    ops_.upload(to.data(), values.data(), values.size() * sizeof(int32_t));
  }

  Ops& ops_;
  DeviceTensor table_, norm_, q_proj_, k_proj_, v_proj_, head_norm_, o_proj_;
  DeviceTensor cache_, residual_, normed_, q_, attended_, projected_;
  DeviceArray<int32_t> ids_, positions_, starts_, segments_, block_ids_, offsets_, first_block_;
  int num_launched_ = 0;
};

class StepGraphsTest : public CudaTest {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
    if (IsSkipped()) return;
    const auto warn = [this](const std::string& line) { warnings_.push_back(line); };
    kept_ops_ = cuda::make_cuda_ops({.without_cublas = kIsEmulated, .warn = warn});
    plain_ops_ =
        cuda::make_cuda_ops({.without_cublas = kIsEmulated, .without_graphs = true, .warn = warn});
    kept_ = std::make_unique<Block>(*kept_ops_, Random(5));
    plain_ = std::make_unique<Block>(*plain_ops_, Random(5));
  }
  void TearDown() override {
    kept_.reset();
    plain_.reset();
  }

  // The same contents for both; results of `plain` are planned for exactly what it sees.
  void step(const StepKey& key, int first_position, int32_t planned, Random& random) {
    const Contents contents = make_contents(first_position, random);
    kept_->set(contents);
    plain_->set(contents);
    kept_->run(key, planned);
    plain_->run(key, std::max(planned, contents.positions.back()));
  }

  std::vector<std::string> warnings_;
  std::unique_ptr<Ops> kept_ops_, plain_ops_;
  std::unique_ptr<Block> kept_, plain_;
};

TEST_F(StepGraphsTest, ReplayedStepsEqualLaunchedOnes) {
  Random random(11);
  const StepKey key = {.owner = 1, .num_rows = kRows, .max_position = 511};
  constexpr int kSteps = 6;
  for (int i = 0; i < kSteps; ++i) {
    step(key, 20 + 90 * i, 511, random);  // contexts grow within the bucket
    ASSERT_EQ(kept_->result(), plain_->result()) << "step " << i;
  }
  EXPECT_EQ(plain_->num_launched(), kSteps);
  EXPECT_EQ(kept_->num_launched(), 2);  // once as it is, once captured
  EXPECT_TRUE(warnings_.empty()) << warnings_.front();
}

// The control: a key that leaves out how far attention was planned gives wrong results.
TEST_F(StepGraphsTest, ABucketTooSmallIsNoticed) {
  Random random(12);
  const StepKey key = {.owner = 1, .num_rows = kRows, .max_position = 127};
  for (int i = 0; i < 2; ++i) {
    step(key, 100, 127, random);
    ASSERT_EQ(kept_->result(), plain_->result());
  }
  step(key, 500, 127, random);
  EXPECT_NE(kept_->result(), plain_->result());
}

TEST_F(StepGraphsTest, KeysDoNotShareGraphs) {
  Random random(13);
  for (int i = 0; i < 3; ++i) {
    step({.owner = 1, .max_position = 127}, 60, 127, random);
    ASSERT_EQ(kept_->result(), plain_->result());
    step({.owner = 1, .max_position = 511}, 450, 511, random);
    ASSERT_EQ(kept_->result(), plain_->result());
  }
  EXPECT_EQ(kept_->num_launched(), 4);
}

TEST_F(StepGraphsTest, GraphsAreDroppedWhenWorkSpaceMoves) {
  Random random(14);
  const StepKey key = {.owner = 1, .max_position = 255};
  for (int i = 0; i < 3; ++i) step(key, 100, 255, random);
  ASSERT_EQ(kept_->num_launched(), 2);
  kept_->launch_more_rows(40);
  for (int i = 0; i < 2; ++i) {
    step(key, 200, 255, random);
    ASSERT_EQ(kept_->result(), plain_->result());
  }
  EXPECT_EQ(kept_->num_launched(), 3);
}

// How often steps of a realistic load are captured: chats that come and go by themselves, decoding
// together; a step with a new prompt is no repeatable one.
class StepGraphLoadTest : public CudaTest {
 protected:
  struct Counts {
    int replayed = 0;
    int launched = 0;  // as they are, or to be captured
  };

  // The last `num_steps` decode steps of a load with `most` chats at a time, after `num_before`.
  static Counts count(size_t capacity, int most, int num_before, int num_steps) {
    Random random(21);
    cuda::Stream stream;
    cuda::StepGraphs graphs([](const std::string& line) { FAIL() << line; }, capacity);
    struct Chat {
      int position;
      int num_left;
    };
    std::vector<Chat> chats;
    Counts counts;
    int num_launched = 0;
    for (int step = 0; step < num_before + num_steps;) {
      const int missing = most - static_cast<int>(chats.size());
      if (chats.empty() || random.below(2 * most) < missing) {
        chats.push_back({64 + random.below(1024), 16 + random.below(600)});
      } else {
        int longest = 0;
        for (const Chat& chat : chats) longest = std::max(longest, chat.position);
        const StepKey key = {.owner = 1,
                             .num_rows = static_cast<int>(chats.size()),
                             .max_position = (longest / 256 + 1) * 256 - 1};
        const int before = num_launched;
        graphs.run(key, {}, stream.get(), [&](cudaStream_t) { ++num_launched; });
        if (step++ >= num_before) ++(num_launched > before ? counts.launched : counts.replayed);
      }
      for (Chat& chat : chats) ++chat.position, --chat.num_left;
      std::erase_if(chats, [](const Chat& chat) { return chat.num_left <= 0; });
    }
    return counts;
  }
};

TEST_F(StepGraphLoadTest, ChangingBatchesAreReplayed) {
  // From the start: each key is launched twice.
  const Counts first = count(cuda::kMaxStepGraphs, 100, 0, 5000);
  EXPECT_LT(first.launched, 250) << "of 5000";
  // Later hardly one in a hundred.
  const Counts later = count(cuda::kMaxStepGraphs, 100, 5000, 5000);
  EXPECT_LT(later.launched, 75) << "of 5000";
  EXPECT_EQ(later.launched + later.replayed, 5000);
  // The control: with a few graphs the same load loses them again and again.
  EXPECT_GT(count(8, 100, 5000, 5000).launched, 4 * later.launched + 100);
}

TEST_F(StepGraphLoadTest, TheLeastRecentlyUsedGraphIsDropped) {
  cuda::Stream stream;
  constexpr size_t kCapacity = 3;
  cuda::StepGraphs graphs([](const std::string& line) { FAIL() << line; }, kCapacity);
  int launched = 0;
  const auto run = [&](uint64_t owner) {
    graphs.run({.owner = owner}, {}, stream.get(), [&](cudaStream_t) { ++launched; });
    return launched;
  };
  for (uint64_t owner = 0; owner <= kCapacity; ++owner)
    EXPECT_EQ(run(owner), static_cast<int>(owner) + 1);
  EXPECT_EQ(run(1), 5);  // captured
  EXPECT_EQ(run(1), 5);
  EXPECT_EQ(run(0), 6);  // forgotten: as it is
  EXPECT_EQ(run(0), 7);
  EXPECT_EQ(run(0), 7);
  EXPECT_EQ(run(1), 7);
}

// A step that does what a graph cannot hold still runs, also the time it was to be captured.
TEST_F(StepGraphsTest, AStepThatCannotBeCapturedIsLaunched) {
  Random random(16);
  const StepKey key = {.owner = 1, .max_position = 127};
  for (int i = 0; i < 4; ++i) {
    const Contents contents = make_contents(40 + i, random);
    kept_->set(contents);
    plain_->set(contents);
    kept_ops_->run_repeatable(key, [&] {
      kept_->launch(127);
      kept_->set(contents);
    });
    plain_->launch(127);
    ASSERT_EQ(kept_->result(), plain_->result()) << "step " << i;
  }
  ASSERT_EQ(warnings_.size(), 1U);
  EXPECT_NE(warnings_[0].find("upload within a repeatable step"), std::string::npos)
      << warnings_[0];
}

TEST_F(StepGraphsTest, MemoryThatIsTakenWithinAStepEndsCapturing) {
  Random random(17);
  const StepKey key = {.owner = 1, .max_position = 127};
  for (int i = 0; i < 3; ++i) {
    const Contents contents = make_contents(40 + i, random);
    kept_->set(contents);
    plain_->set(contents);
    kept_ops_->run_repeatable(key, [&] {
      kept_ops_->free(kept_ops_->allocate(64));
      kept_->launch(127);
    });
    plain_->launch(127);
    ASSERT_EQ(kept_->result(), plain_->result()) << "step " << i;
  }
  EXPECT_EQ(warnings_.size(), 1U);
}

}  // namespace
}  // namespace beryl::kernels
