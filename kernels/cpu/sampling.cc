#include "kernels/cpu/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/check.h"
#include "kernels/random.h"

namespace beryl::kernels::cpu {
namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();
// Buckets of the nucleus search: kBucketsPerNat to one e-fold of probability.
constexpr int kNumBuckets = 1024;
constexpr float kBucketsPerNat = 32;

bool comes_before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token_id < b.token_id;
}

void apply_penalties(const SamplingRow& row, float* logits, int32_t vocab_size) {
  for (int32_t i = 0; i < row.num_counts; ++i) {
    const TokenCount& seen = row.counts[i];
    BERYL_CHECK(seen.token_id >= 0 && seen.token_id < vocab_size);
    float& logit = logits[seen.token_id];
    logit = logit > 0 ? logit / row.repetition_penalty : logit * row.repetition_penalty;
    if (seen.count > 0) {
      logit -= row.frequency_penalty * static_cast<float>(seen.count) + row.presence_penalty;
    }
  }
  for (int32_t i = 0; i < row.num_biases; ++i) {
    const TokenBias& bias = row.biases[i];
    BERYL_CHECK(bias.token_id >= 0 && bias.token_id < vocab_size);
    logits[bias.token_id] += bias.bias;
  }
}

// The `count` first candidates in order, sorted. O(vocab_size) for small counts: a buffer takes
// what beats the worst of the best seen, and is cut back when it is full.
void select_largest(const float* logits, int32_t vocab_size, int32_t count,
                    std::vector<Candidate>& out) {
  count = std::min(count, vocab_size);
  const auto keep = static_cast<size_t>(count);
  const size_t limit = std::max<size_t>(2 * keep, 512);
  out.clear();
  float worst = kForbidden;
  for (int32_t id = 0; id < vocab_size; ++id) {
    if (!(logits[id] > worst)) continue;
    out.push_back({logits[id], id, 0});
    if (out.size() < limit) continue;
    std::nth_element(out.begin(), out.begin() + count - 1, out.end(), comes_before);
    out.resize(keep);
    // A later id with an equal logit comes after all that are kept.
    worst = out[keep - 1].logit;
  }
  std::sort(out.begin(), out.end(), comes_before);
  if (out.size() > keep) out.resize(keep);
}

// masses[i] = exp((logits[i] - top) / temperature); returns their sum.
double compute_masses(const float* logits, int32_t vocab_size, float top, float temperature,
                      std::vector<float>& masses) {
  masses.resize(static_cast<size_t>(vocab_size));
  double total = 0;
  for (int32_t id = 0; id < vocab_size; ++id) {
    const float mass = std::exp((logits[id] - top) / temperature);
    masses[static_cast<size_t>(id)] = mass;
    total += mass;
  }
  return total;
}

// Cuts candidates, sorted, to the shortest front whose mass is at least top_p of the whole.
void cut_top_p(float top_p, double total, std::vector<Candidate>& candidates) {
  if (top_p >= 1) return;
  double sum = 0;
  size_t kept = 0;
  while (kept < candidates.size() && (kept == 0 || sum < top_p * total)) {
    sum += candidates[kept++].mass;
  }
  candidates.resize(kept);
}

int32_t bucket_of(float logit, float top, float temperature) {
  const float depth = (top - logit) / temperature * kBucketsPerNat;
  return depth < kNumBuckets - 1 ? static_cast<int32_t>(depth) : kNumBuckets - 1;
}

// The nucleus without sorting the vocabulary: whole buckets of similar logits are taken from the
// top, only the bucket in which the mass is reached is sorted.
void select_nucleus(const SamplingRow& row, const float* logits, float top, double total,
                    SamplingScratch& scratch) {
  std::vector<double> bucket_mass(kNumBuckets);
  const auto vocab_size = static_cast<int32_t>(scratch.masses.size());
  for (int32_t id = 0; id < vocab_size; ++id) {
    if (logits[id] == kForbidden) continue;
    bucket_mass[static_cast<size_t>(bucket_of(logits[id], top, row.temperature))] +=
        scratch.masses[static_cast<size_t>(id)];
  }
  double sum = 0;
  int32_t border = 0;
  while (border < kNumBuckets - 1 &&
         sum + bucket_mass[static_cast<size_t>(border)] < row.top_p * total) {
    sum += bucket_mass[static_cast<size_t>(border++)];
  }
  std::vector<Candidate> last;
  scratch.candidates.clear();
  for (int32_t id = 0; id < vocab_size; ++id) {
    if (logits[id] == kForbidden) continue;
    const int32_t bucket = bucket_of(logits[id], top, row.temperature);
    if (bucket > border) continue;
    auto& target = bucket == border ? last : scratch.candidates;
    target.push_back({logits[id], id, scratch.masses[static_cast<size_t>(id)]});
  }
  std::sort(last.begin(), last.end(), comes_before);
  for (const Candidate& candidate : last) {
    if (!scratch.candidates.empty() && sum >= row.top_p * total) break;
    scratch.candidates.push_back(candidate);
    sum += candidate.mass;
  }
}

// Fills scratch.candidates with what top_k, top_p and min_p leave.
void select_candidates(const SamplingRow& row, const float* logits, int32_t vocab_size, float top,
                       SamplingScratch& scratch) {
  std::vector<Candidate>& candidates = scratch.candidates;
  if (row.top_k > 0 && row.top_k < vocab_size) {
    select_largest(logits, vocab_size, row.top_k, candidates);
    double total = 0;
    for (Candidate& candidate : candidates) {
      candidate.mass = std::exp((candidate.logit - top) / row.temperature);
      total += candidate.mass;
    }
    cut_top_p(row.top_p, total, candidates);
  } else {
    const double total = compute_masses(logits, vocab_size, top, row.temperature, scratch.masses);
    if (row.top_p < 1) {
      select_nucleus(row, logits, top, total, scratch);
    } else {
      candidates.clear();
      for (int32_t id = 0; id < vocab_size; ++id) {
        const float mass = scratch.masses[static_cast<size_t>(id)];
        if (mass > 0) candidates.push_back({logits[id], id, mass});
      }
    }
  }
  // The largest mass is exp(0) = 1, so min_p compares with the masses themselves.
  std::erase_if(candidates, [&](const Candidate& c) { return c.mass < row.min_p; });
}

int32_t draw(const SamplingRow& row, const std::vector<Candidate>& candidates) {
  double total = 0;
  for (const Candidate& candidate : candidates) total += candidate.mass;
  const double target = uniform_draw(row.seed, row.choice, row.position) * total;
  double sum = 0;
  for (const Candidate& candidate : candidates) {
    sum += candidate.mass;
    if (target < sum) return candidate.token_id;
  }
  return candidates.back().token_id;
}

void fill_logprobs(const SamplingRow& row, const float* logits, int32_t vocab_size, float top,
                   SampledToken& sampled, SamplingScratch& scratch) {
  const double total = compute_masses(logits, vocab_size, top, 1, scratch.masses);
  const double log_total = std::log(total) + top;
  const auto logprob = [&](float logit) { return static_cast<float>(logit - log_total); };
  sampled.logprob = logprob(logits[sampled.token_id]);
  sampled.num_top = std::min({row.num_top_logprobs, kMaxTopLogprobs, vocab_size});
  if (sampled.num_top == 0) return;
  select_largest(logits, vocab_size, sampled.num_top, scratch.candidates);
  sampled.num_top = static_cast<int32_t>(scratch.candidates.size());
  for (int32_t i = 0; i < sampled.num_top; ++i) {
    const Candidate& candidate = scratch.candidates[static_cast<size_t>(i)];
    sampled.top[i] = {candidate.token_id, logprob(candidate.logit)};
  }
}

}  // namespace

SampledToken sample_row(const SamplingRow& row, float* logits, int32_t vocab_size,
                        SamplingScratch& scratch) {
  SampledToken sampled;
  apply_penalties(row, logits, vocab_size);
  int32_t best = 0;
  bool has_nan = false;
  for (int32_t id = 0; id < vocab_size; ++id) {
    has_nan |= std::isnan(logits[id]);
    if (logits[id] > logits[best]) best = id;
  }
  const float top = logits[best];
  if (has_nan || top == -kForbidden) {
    sampled.has_nan = true;
    return sampled;
  }
  if (top == kForbidden) {
    sampled.all_forbidden = true;
    return sampled;
  }
  if (row.temperature <= 0) {
    sampled.token_id = best;
  } else {
    select_candidates(row, logits, vocab_size, top, scratch);
    sampled.token_id = scratch.candidates.empty() ? best : draw(row, scratch.candidates);
  }
  if (row.num_top_logprobs >= 0) {
    fill_logprobs(row, logits, vocab_size, top, sampled, scratch);
  }
  return sampled;
}

}  // namespace beryl::kernels::cpu
