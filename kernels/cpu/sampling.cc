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

// The logits of one row and what was found out about them.
struct Row {
  const KernelTable& kernels;
  const SamplingRow& params;
  const float* logits;  // after penalties and bias
  int32_t vocab_size;
  float top;  // largest logit

  float factor() const { return 1 / params.temperature; }
};

// masses = exp((logits - top) * factor); returns their sum.
double compute_masses(const Row& row, float factor, std::vector<float>& masses) {
  masses.resize(static_cast<size_t>(row.vocab_size));
  return row.kernels.exp_masses(row.logits, row.top, factor, row.vocab_size, masses.data());
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

int32_t bucket_of(const Row& row, int32_t token_id) {
  const float depth = (row.top - row.logits[token_id]) * row.factor() * kBucketsPerNat;
  return depth < kNumBuckets - 1 ? static_cast<int32_t>(depth) : kNumBuckets - 1;
}

// The nucleus without sorting the vocabulary: whole buckets of similar logits are taken from the
// top, only the bucket in which the mass is reached is sorted.
void select_nucleus(const Row& row, double total, SamplingScratch& scratch) {
  scratch.bucket_mass.assign(kNumBuckets, 0);
  for (int32_t id = 0; id < row.vocab_size; ++id) {
    const float mass = scratch.masses[static_cast<size_t>(id)];
    if (mass > 0) scratch.bucket_mass[static_cast<size_t>(bucket_of(row, id))] += mass;
  }
  const double goal = row.params.top_p * total;
  double sum = 0;
  int32_t border = 0;
  for (; border < kNumBuckets - 1; ++border) {
    const double next = sum + scratch.bucket_mass[static_cast<size_t>(border)];
    if (next >= goal) break;
    sum = next;
  }
  scratch.candidates.clear();
  scratch.border.clear();
  for (int32_t id = 0; id < row.vocab_size; ++id) {
    const float mass = scratch.masses[static_cast<size_t>(id)];
    if (!(mass > 0)) continue;
    const int32_t bucket = bucket_of(row, id);
    if (bucket > border) continue;
    auto& target = bucket == border ? scratch.border : scratch.candidates;
    target.push_back({row.logits[id], id, mass});
  }
  std::sort(scratch.border.begin(), scratch.border.end(), comes_before);
  for (const Candidate& candidate : scratch.border) {
    if (!scratch.candidates.empty() && sum >= goal) break;
    scratch.candidates.push_back(candidate);
    sum += candidate.mass;
  }
}

// Fills scratch.candidates with what top_k, top_p and min_p leave.
void select_candidates(const Row& row, SamplingScratch& scratch) {
  std::vector<Candidate>& candidates = scratch.candidates;
  if (row.params.top_k > 0 && row.params.top_k < row.vocab_size) {
    select_largest(row.logits, row.vocab_size, row.params.top_k, candidates);
    double total = 0;
    for (Candidate& candidate : candidates) {
      row.kernels.exp_masses(&candidate.logit, row.top, row.factor(), 1, &candidate.mass);
      total += candidate.mass;
    }
    cut_top_p(row.params.top_p, total, candidates);
  } else {
    const double total = compute_masses(row, row.factor(), scratch.masses);
    if (row.params.top_p < 1) {
      select_nucleus(row, total, scratch);
    } else {
      candidates.clear();
      for (int32_t id = 0; id < row.vocab_size; ++id) {
        const float mass = scratch.masses[static_cast<size_t>(id)];
        if (mass > 0) candidates.push_back({row.logits[id], id, mass});
      }
    }
  }
  // The largest mass is exp(0) = 1, so min_p compares with the masses themselves.
  std::erase_if(candidates, [&](const Candidate& c) { return c.mass < row.params.min_p; });
}

int32_t draw(const SamplingRow& params, const std::vector<Candidate>& candidates) {
  double total = 0;
  for (const Candidate& candidate : candidates) total += candidate.mass;
  const double target = uniform_draw(params.seed, params.choice, params.position) * total;
  double sum = 0;
  for (const Candidate& candidate : candidates) {
    sum += candidate.mass;
    if (target < sum) return candidate.token_id;
  }
  return candidates.back().token_id;
}

void fill_logprobs(const Row& row, SampledToken& sampled, SamplingScratch& scratch) {
  const double total = compute_masses(row, 1, scratch.masses);
  const double log_total = std::log(total) + row.top;
  const auto logprob = [&](float logit) { return static_cast<float>(logit - log_total); };
  sampled.logprob = logprob(row.logits[sampled.token_id]);
  const int32_t wanted = std::min(row.params.num_top_logprobs, kMaxTopLogprobs);
  if (wanted == 0) return;
  select_largest(row.logits, row.vocab_size, wanted, scratch.candidates);
  sampled.num_top = static_cast<int32_t>(scratch.candidates.size());
  for (int32_t i = 0; i < sampled.num_top; ++i) {
    const Candidate& candidate = scratch.candidates[static_cast<size_t>(i)];
    sampled.top[i] = {candidate.token_id, logprob(candidate.logit)};
  }
}

}  // namespace

SampledToken sample_row(const KernelTable& kernels, const SamplingRow& params, float* logits,
                        int32_t vocab_size, SamplingScratch& scratch) {
  SampledToken sampled;
  apply_penalties(params, logits, vocab_size);
  const LogitScan scan = kernels.scan_logits(logits, vocab_size);
  sampled.has_nan = scan.has_nan;
  sampled.all_forbidden = !scan.has_nan && scan.top == kForbidden;
  if (sampled.has_nan || sampled.all_forbidden) return sampled;
  const Row row = {kernels, params, logits, vocab_size, scan.top};
  if (params.temperature > 0) {
    select_candidates(row, scratch);
    if (!scratch.candidates.empty()) sampled.token_id = draw(params, scratch.candidates);
  }
  if (sampled.token_id < 0) {  // greedy, or min_p above 1 left nothing
    sampled.token_id =
        static_cast<int32_t>(std::find(logits, logits + vocab_size, scan.top) - logits);
  }
  if (params.num_top_logprobs >= 0) fill_logprobs(row, sampled, scratch);
  return sampled;
}

}  // namespace beryl::kernels::cpu
