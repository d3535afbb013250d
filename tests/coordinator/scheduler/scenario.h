// A simulated world drawn from a seed: group sizes, load and misfortunes. Equal seeds, equal
// worlds.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "coordinator/scheduler/scheduler.h"

namespace beryl::scheduler::sim {

using Random = std::mt19937_64;

inline uint64_t draw(Random& random, uint64_t low, uint64_t high) {
  return low + random() % (high - low + 1);
}
inline bool chance(Random& random, double probability) {
  return static_cast<double>(random() >> 11) * 0x1.0p-53 < probability;
}

// A fault planted in the scheduler itself, which the simulator must notice.
enum class PlantedFault {
  kNone,
  kFreeEarly,    // blocks retire one step before their last step has completed
  kLeakBlock,    // a block is taken and never given back
  kStartOver,    // a request that lost its place forgets what it generated
  kRepeatToken,  // ... or says its last token twice
  kStarve,       // some heads of the queue go to its end
  kCutSpan,      // a span is taken for text
  kSkipJob,      // a plan lacks a feature job
  kDropEarly,    // features are dropped by the step that needs them, not by a later one
};

struct Scenario {
  uint64_t seed = 0;
  GroupFacts facts;
  SchedulerConfig config;
  uint32_t num_requests = 0;
  uint32_t max_prompt = 0;
  uint32_t max_answer = 0;
  double mean_gap_us = 0;      // between arrivals
  double burst_chance = 0;     // that arrivals come together
  double cancel_chance = 0;    // of a request
  double deadline_chance = 0;  // of a request
  double choices_chance = 0;   // that a prompt is asked several times (n > 1)
  double prompt_logprob_chance = 0;
  double picture_chance = 0;  // that a prompt has some, of num_pictures different ones
  uint32_t num_pictures = 0;
  uint32_t longest_span = 0;        // soft tokens
  double mean_time_to_loss_us = 0;  // 0: the group is never lost
  bool has_priorities = false;
  bool ranks_may_change = false;  // a new epoch may have another number of ranks
  PlantedFault fault = PlantedFault::kNone;
};

// Everything random. `num_requests` and the largest group are the caller's.
Scenario draw_scenario(uint64_t seed, uint32_t num_requests, uint32_t max_ranks);

// A picture by number, 1 ... num_pictures: equal numbers, equal pictures. It fits the facts.
PictureSpan picture_of(uint64_t number, const Scenario& scenario);

// What the model "says": a pure function of the request's seed, choice and position, and of the
// token before (so that a wrong history shows). 0 ... kVocabSize - 1.
inline constexpr int32_t kVocabSize = 64;
int32_t model_token(const SamplingParams& sampling, uint32_t position, int32_t previous,
                    uint32_t num_generated, const std::vector<int32_t>& stop_token_ids);

}  // namespace beryl::scheduler::sim
