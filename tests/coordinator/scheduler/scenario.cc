#include "tests/coordinator/scheduler/scenario.h"

#include <algorithm>
#include <array>

namespace beryl::scheduler::sim {
namespace {

template <size_t N>
uint32_t one_of(Random& random, const std::array<uint32_t, N>& values) {
  return values[random() % N];
}

uint64_t mix(uint64_t value) {
  value += 0x9E3779B97F4A7C15;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
  return value ^ (value >> 31);
}

GroupFacts draw_facts(Random& random, uint32_t max_ranks, uint32_t max_len) {
  GroupFacts facts;
  // Small groups are drawn more often: their pools are the ones that run out.
  facts.num_ranks = static_cast<uint32_t>(
      chance(random, 0.6) ? draw(random, 1, std::min(4U, max_ranks)) : draw(random, 1, max_ranks));
  facts.max_model_len = max_len;
  facts.block_size = one_of<4>(random, {1, 4, 8, 16});
  facts.sliding_window = one_of<5>(random, {1, 5, 16, 32, 100});
  const uint32_t one_request = (max_len + facts.block_size - 1) / facts.block_size;
  const uint32_t window = (facts.sliding_window + 2 * facts.block_size - 2) / facts.block_size;
  // From "the largest request just fits" to "never full".
  const uint32_t plenty = one_of<4>(random, {0, 1, 4, 32});
  facts.global_blocks_per_page = one_of<4>(random, {1, 2, 3, 16});
  const uint32_t global_pages =
      (one_request + facts.global_blocks_per_page - 1) / facts.global_blocks_per_page;
  facts.num_pages = global_pages + std::min(window, one_request) +
                    static_cast<uint32_t>(draw(random, 0, plenty * 32));
  facts.max_num_seqs = one_of<6>(random, {1, 2, 4, 8, 20, 64});
  facts.max_num_batched_tokens = one_of<6>(random, {1, 7, 16, 64, 128, 256});
  return facts;
}

// From "one picture at a time" to "never full"; the pages hold the longest span.
void draw_pictures(Random& random, Scenario& scenario) {
  GroupFacts& facts = scenario.facts;
  scenario.picture_chance = chance(random, 0.5) ? 1 : 0.3;
  scenario.num_pictures = one_of<4>(random, {1, 5, 50, 100'000});
  facts.max_picture_patches = one_of<3>(random, {9, 200, 10'000});
  const uint32_t longest = one_of<4>(random, {1, 5, 20, 100});
  facts.num_feature_tokens = longest * one_of<4>(random, {1, 2, 5, 100});
  facts.max_num_batched_tokens =
      std::max(facts.max_num_batched_tokens, std::min(longest, facts.num_feature_tokens));
  facts.num_pages += (longest + facts.block_size - 1) / facts.block_size + 1;
  scenario.longest_span = longest;
  scenario.config.max_encode_patches_per_step = one_of<3>(random, {0, 300, 2'520});
  scenario.config.max_encode_patches_alone = one_of<3>(random, {0, 3'000, 40'320});
}

}  // namespace

PictureSpan picture_of(uint64_t number, const Scenario& scenario) {
  Random random(number);
  PictureSpan span;
  span.key = {mix(number), number};
  span.num_tokens = static_cast<uint32_t>(draw(random, 1, scenario.longest_span));
  if (chance(random, 0.2)) span.num_tokens = scenario.longest_span;
  span.num_patches = static_cast<uint32_t>(draw(random, 1, scenario.facts.max_picture_patches));
  return span;
}

Scenario draw_scenario(uint64_t seed, uint32_t num_requests, uint32_t max_ranks) {
  Random random(seed);
  Scenario scenario;
  scenario.seed = seed;
  scenario.num_requests = num_requests;
  scenario.max_prompt = one_of<4>(random, {4, 20, 60, 200});
  scenario.max_answer = one_of<4>(random, {1, 8, 30, 80});
  scenario.facts = draw_facts(random, max_ranks, scenario.max_prompt + scenario.max_answer);
  scenario.config.max_queued_requests = 1'000'000;
  scenario.config.max_queued_tokens = 1'000'000'000;
  scenario.config.max_steps_in_flight = static_cast<uint32_t>(draw(random, 1, 3));
  scenario.config.target_itl_us = one_of<3>(random, {1'000, 20'000, 1'000'000});
  scenario.config.max_attempts = 1'000'000;
  scenario.mean_gap_us = one_of<3>(random, {100, 2'000, 20'000});
  scenario.burst_chance = chance(random, 0.5) ? 0.9 : 0;
  scenario.cancel_chance = chance(random, 0.5) ? 0.2 : 0;
  scenario.deadline_chance = chance(random, 0.3) ? 0.2 : 0;
  scenario.choices_chance = chance(random, 0.3) ? 0.3 : 0;
  scenario.prompt_logprob_chance = chance(random, 0.3) ? 0.3 : 0;
  scenario.mean_time_to_loss_us = chance(random, 0.5) ? one_of<2>(random, {100'000, 1'000'000}) : 0;
  scenario.has_priorities = chance(random, 0.3);
  scenario.ranks_may_change = chance(random, 0.5);
  if (chance(random, 0.5)) draw_pictures(random, scenario);
  return scenario;
}

int32_t model_token(const SamplingParams& sampling, uint32_t position, int32_t previous,
                    uint32_t num_generated, const std::vector<int32_t>& stop_token_ids) {
  uint64_t state = mix(sampling.seed ^ mix(sampling.choice)) ^ mix(position);
  state = mix(state ^ static_cast<uint64_t>(previous));
  while (true) {
    const auto token = static_cast<int32_t>(state % kVocabSize);
    const bool is_stop =
        std::find(stop_token_ids.begin(), stop_token_ids.end(), token) != stop_token_ids.end();
    if (!is_stop || num_generated >= sampling.min_tokens) return token;
    state = mix(state);
  }
}

}  // namespace beryl::scheduler::sim
