#include "worker/service/warm_up.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "worker/model/decoder.h"

namespace beryl::service {
namespace {

// Batches that decode, by what products with few, some and many rows are computed with.
constexpr std::array kDecodeRows = {1, 8, 64};

int ceil_div(int a, int b) {
  return (a + b - 1) / b;
}

// Positions of a single request that the cache holds.
int positions_within(const cache::KvCache& cache, int limit) {
  const int per_page = cache.layout().global_blocks;
  int num_blocks = ceil_div(limit, cache.size().block_size);
  while (num_blocks + ceil_div(num_blocks, per_page) > cache.size().num_pages) --num_blocks;
  return std::min(limit, num_blocks * cache.size().block_size);
}

// A step of `num_segments` requests with `num_rows` rows each, from position 0. Global blocks come
// first in the cache, pages of sliding layers after them.
void run_step(RankModel& model, int num_segments, int num_rows) {
  model::Decoder& decoder = model.decoder();
  const cache::KvCache& cache = model.cache();
  const int total = num_segments * num_rows;
  const int num_blocks = ceil_div(num_rows, cache.size().block_size);
  const int pages_each = ceil_div(num_blocks, cache.layout().global_blocks);
  const std::vector<int32_t> token_ids(static_cast<size_t>(total));
  const std::vector<uint64_t> seeds(static_cast<size_t>(total));
  const std::vector<int32_t> first_block(static_cast<size_t>(num_segments));
  std::vector<int32_t> positions;
  std::vector<int32_t> starts = {0};
  std::vector<int32_t> offsets = {0};
  std::vector<int32_t> global;
  std::vector<int32_t> sliding;
  for (int segment = 0; segment < num_segments; ++segment) {
    for (int row = 0; row < num_rows; ++row) positions.push_back(row);
    for (int block = 0; block < num_blocks; ++block) {
      global.push_back(segment * pages_each * cache.layout().global_blocks + block);
      sliding.push_back(num_segments * pages_each + segment * num_blocks + block);
    }
    starts.push_back(static_cast<int32_t>(positions.size()));
    offsets.push_back(static_cast<int32_t>(global.size()));
  }
  const int num_logits = std::min(total, decoder.limits().max_logits_rows);
  std::vector<int32_t> logits_rows(static_cast<size_t>(num_logits));
  std::iota(logits_rows.begin(), logits_rows.end(), total - num_logits);
  const std::vector<int32_t> rank_rows = {total};
  const int block_size = cache.size().block_size;
  const model::DecoderBatch batch = {
      .token_ids = token_ids.data(),
      .rows = {.num_rows = total,
               .num_segments = num_segments,
               .positions = positions.data(),
               .query_start_loc = starts.data(),
               .global_blocks = {global.data(), offsets.data(), first_block.data(), block_size},
               .sliding_blocks = {sliding.data(), offsets.data(), first_block.data(), block_size}},
      .shape = {.mode = expert::StepMode::kExact, .bucket = 0, .rank_rows = rank_rows},
      .request_seeds = seeds.data(),
      .logits_rows = logits_rows};
  if (const auto status = decoder.forward(batch); !status) {
    throw std::runtime_error("the first step fails: " + status.error().message);
  }
  const kernels::TensorView logits = decoder.logits(0, num_logits);
  float first = 0;
  model.ops().download(&first, logits.data, sizeof(first));  // waits
}

// As square as the largest number of soft tokens allows.
void encode_picture(model::VisionTower& tower, const model::VisionConfig& vision) {
  const int64_t per_token = int64_t{vision.pooling_kernel_size} * vision.pooling_kernel_size;
  const auto num_tokens = static_cast<int>(model::kMaxImagePatches / per_token);
  const int unit = vision.soft_token_size();
  const int longest = vision.position_embedding_size * vision.patch_size / unit;
  const int rows = std::min(longest, static_cast<int>(std::sqrt(num_tokens)));
  const int columns = std::min(longest, num_tokens / std::max(1, rows));
  const int height = rows * unit;
  const int width = columns * unit;
  const std::vector<uint8_t> pixels(static_cast<size_t>(height) * static_cast<size_t>(width) * 3);
  const kernels::ImageView image = {.pixels = pixels.data(), .height = height, .width = width};
  const auto features = tower.encode({&image, 1});
  if (!features) {
    throw std::runtime_error("the first picture fails: " + features.error().message);
  }
}

}  // namespace

void warm_up(RankModel& model, const model::ModelConfig& config, uint32_t max_rows) {
  const int most = positions_within(model.cache(), static_cast<int>(max_rows));
  for (const int rows : kDecodeRows) {
    if (rows <= most && 2 * rows <= model.cache().size().num_pages) run_step(model, rows, 1);
  }
  if (most > 0) run_step(model, 1, most);
  if (model.vision_tower() != nullptr) encode_picture(*model.vision_tower(), *config.vision);
}

}  // namespace beryl::service
