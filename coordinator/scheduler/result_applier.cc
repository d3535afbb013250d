#include "coordinator/scheduler/result_applier.h"

#include <algorithm>
#include <utility>

#include "parallel/base/assert.h"

namespace beryl::scheduler {
namespace {

constexpr uint32_t kNone = UINT32_MAX;

// Prompt tokens whose logprobs a row computes: start + 1 ... start + count, as far as they exist.
uint32_t num_prompt_logprobs(const RowInFlight& row) {
  if (row.request->spec.sampling.num_prompt_logprobs < 0) return 0;
  const uint32_t last = std::min(row.start + row.count, row.request->num_prompt_tokens - 1);
  return last > row.start ? last - row.start : 0;
}

bool is_owed(const RowInFlight& row, const RowOutput& output) {
  if (!output.error.empty()) return true;
  // No drafting is planned: one token where one is drawn.
  if (output.tokens.size() != (row.sample ? 1U : 0U)) return false;
  return output.prompt_logprobs.size() == num_prompt_logprobs(row);
}

bool may_stay_silent(const RowInFlight& row) {
  return !row.sample && num_prompt_logprobs(row) == 0;
}

// The output of each row, null where none is owed; empty optional if the result is not as planned.
std::optional<std::vector<const RowOutput*>> match_outputs(const std::vector<RowInFlight>& rows,
                                                           const RankResult& result,
                                                           uint32_t max_num_seqs) {
  std::vector<uint32_t> row_of_handle(max_num_seqs, kNone);
  for (uint32_t idx = 0; idx < rows.size(); ++idx) row_of_handle[rows[idx].handle] = idx;
  std::vector<const RowOutput*> outputs(rows.size(), nullptr);
  for (const RowOutput& output : result.outputs) {
    if (output.handle >= max_num_seqs) return std::nullopt;
    const uint32_t idx = row_of_handle[output.handle];
    if (idx == kNone || outputs[idx] != nullptr || !is_owed(rows[idx], output)) return std::nullopt;
    outputs[idx] = &output;
  }
  for (uint32_t idx = 0; idx < rows.size(); ++idx) {
    if (outputs[idx] == nullptr && !may_stay_silent(rows[idx])) return std::nullopt;
  }
  return outputs;
}

// After a preemption prompt positions are computed again: what was told once is left out.
std::vector<GeneratedToken> untold_prompt_logprobs(RequestState& request, const RowInFlight& row,
                                                   const RowOutput& output) {
  const uint32_t first = row.start + 1;
  const uint32_t num_values = static_cast<uint32_t>(output.prompt_logprobs.size());
  BERYL_ASSERT(request.next_prompt_logprob >= first, "logprobs from {}, told up to {}", first,
               request.next_prompt_logprob);
  const uint32_t num_told = std::min(request.next_prompt_logprob - first, num_values);
  request.next_prompt_logprob += num_values - num_told;
  return {output.prompt_logprobs.begin() + num_told, output.prompt_logprobs.end()};
}

bool is_stop(const RequestState& request, int32_t token_id) {
  // The worker masks stop tokens below min_tokens; one that comes nevertheless (all allowed tokens
  // were stops) is a token like others.
  if (request.num_generated() < request.spec.sampling.min_tokens) return false;
  const std::vector<int32_t>& stops = request.spec.stop_token_ids;
  return std::find(stops.begin(), stops.end(), token_id) != stops.end();
}

void apply_token(GroupState& state, RequestState& request, const GeneratedToken& token,
                 SchedulerEvent event) {
  const bool stops = is_stop(request, token.token_id);
  request.token_ids.push_back(token.token_id);
  if (request.phase == Phase::kWaiting) state.waiting.count_late_token();
  ++state.tokens_generated;
  event.tokens.push_back(token);
  if (stops) {
    event.reason = FinishReason::kStop;
    event.stop_token_id = token.token_id;
    state.finish(request, std::move(event));
  } else if (request.num_tokens() == request.max_num_tokens()) {
    event.reason = FinishReason::kLength;
    state.finish(request, std::move(event));
  } else {
    state.events.push_back(std::move(event));
  }
}

void apply_row(GroupState& state, const RowInFlight& row, const RowOutput* output) {
  RequestState& request = *row.request;
  --request.rows_in_flight;
  request.samples_in_flight -= row.sample ? 1 : 0;
  if (row.prefill) state.prompt_tokens_computed += row.count;
  // A row planned after its request ended, or one that only filled the cache.
  if (request.phase == Phase::kFinished || output == nullptr) {
    state.drop_if_settled(request);
    return;
  }
  SchedulerEvent event;
  event.request = request.spec.id;
  if (!output->error.empty()) {
    event.reason = FinishReason::kError;
    event.error = output->error;
    state.finish(request, std::move(event));
  } else {
    if (!output->prompt_logprobs.empty()) {
      event.prompt_logprobs = untold_prompt_logprobs(request, row, *output);
    }
    if (row.sample) {
      apply_token(state, request, output->tokens.front(), std::move(event));
    } else if (!event.prompt_logprobs.empty()) {
      state.events.push_back(std::move(event));
    }
  }
  state.drop_if_settled(request);
}

void complete_steps(GroupState& state) {
  while (!state.in_flight.empty()) {
    const StepInFlight& oldest = state.in_flight.front();
    if (oldest.num_reported < state.ranks.size()) return;
    state.retirement.complete(oldest.step);
    // Encoding takes time that rows do not explain.
    if (!oldest.has_feature_jobs) state.cost.observe(oldest.max_rows, oldest.duration_us);
    state.in_flight.pop_front();
  }
}

}  // namespace

bool apply_result(GroupState& state, const RankResult& result) {
  if (result.epoch < state.epoch || (result.epoch == state.epoch && !state.has_epoch)) return true;
  if (result.epoch > state.epoch || result.rank >= state.ranks.size()) return false;
  uint64_t& last_result = state.last_result[result.rank];
  if (result.step != last_result + 1 || result.step > state.last_planned) return false;

  StepInFlight& step = state.in_flight[result.step - state.in_flight.front().step];
  const std::vector<RowInFlight>& rows = step.rows[result.rank];
  const auto outputs = match_outputs(rows, result, state.facts->max_num_seqs);
  if (!outputs) return false;

  last_result = result.step;
  ++step.num_reported;
  step.duration_us = std::max(step.duration_us, result.duration_us);
  for (size_t idx = 0; idx < rows.size(); ++idx) apply_row(state, rows[idx], (*outputs)[idx]);
  complete_steps(state);
  return true;
}

}  // namespace beryl::scheduler
