// An executor on rank 1 of 2 over a table of logits, and plans for it.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/cpu/cpu_ops.h"
#include "tests/worker/engine/table_forward.h"
#include "worker/engine/step_executor.h"

namespace beryl::engine {

inline constexpr int kVocabSize = 50;
inline constexpr uint32_t kForbiddenId = 13;

inline wire::GroupLimits test_limits() {
  wire::GroupLimits limits;
  limits.epoch = 5;
  limits.num_ranks = 2;
  limits.model.set_vocab_size(kVocabSize);
  limits.model.set_max_model_len(256);
  limits.model.set_sliding_window(8);
  limits.model.add_forbidden_token_ids(kForbiddenId);
  limits.cache.set_block_size(4);
  limits.cache.set_num_pages(28);
  limits.cache.set_global_blocks_per_page(1);
  limits.cache.set_max_num_seqs(4);
  limits.cache.set_max_num_batched_tokens(32);
  return limits;
}

class StepExecutorTest : public testing::Test {
 protected:
  // A plan for rank 1 of 2; rank 0 has three rows.
  wire::StepPlan plan() {
    wire::StepPlan plan;
    plan.set_epoch(5);
    plan.set_step(executor_.last_step() + 1);
    plan.set_mode(wire::STEP_MODE_EXACT);
    plan.set_placement_version(1);
    return plan;
  }
  static wire::Admission& admit(wire::StepPlan& plan, uint32_t handle,
                                const std::vector<uint32_t>& tokens, uint32_t num_prompt) {
    wire::Admission& admission = *plan.add_admissions();
    admission.set_handle(handle);
    admission.set_request_seed(1000 + handle);
    *admission.mutable_token_ids() = {tokens.begin(), tokens.end()};
    admission.set_num_prompt_tokens(num_prompt);
    wire::SamplingParams& sampling = *admission.mutable_sampling();
    sampling.set_top_p(1);
    sampling.set_repetition_penalty(1);
    sampling.set_num_top_logprobs(-1);
    sampling.set_num_prompt_logprobs(-1);
    return admission;
  }
  static wire::Row& add_row(wire::StepPlan& plan, uint32_t handle, uint32_t start, uint32_t count,
                            bool sample) {
    wire::Row& row = *plan.add_rows();
    row.set_handle(handle);
    row.set_start(start);
    row.set_count(count);
    row.set_sample(sample);
    return row;
  }
  // Pages of sliding layers are counted from kFirstSliding, so that both lists may be alike.
  static constexpr uint32_t kFirstSliding = 16;
  static void give_blocks(wire::Row& row, const std::vector<uint32_t>& global,
                          const std::vector<uint32_t>& sliding) {
    *row.mutable_new_global_blocks() = {global.begin(), global.end()};
    for (const uint32_t page : sliding) row.add_new_sliding_blocks(kFirstSliding + page);
  }
  base::Expected<wire::StepResult> run(wire::StepPlan plan) {
    uint32_t num_rows = 0;
    for (const wire::Row& row : plan.rows()) num_rows += row.count();
    plan.add_rank_rows(3);
    plan.add_rank_rows(num_rows);
    return executor_.execute(plan);
  }
  // Admits a prompt of 5 tokens (10..14) with blocks for 8 positions and runs it.
  base::Expected<wire::StepResult> start_request(
      uint32_t handle, const std::function<void(wire::SamplingParams&)>& change = nullptr) {
    wire::StepPlan first = plan();
    wire::Admission& admission = admit(first, handle, {20, 21, 22, 23, 24}, 5);
    if (change) change(*admission.mutable_sampling());
    give_blocks(add_row(first, handle, 0, 5, true), {2 * handle, 2 * handle + 1},
                {2 * handle, 2 * handle + 1});
    return run(first);
  }
  base::Expected<wire::StepResult> decode(uint32_t handle, uint32_t position) {
    wire::StepPlan next = plan();
    add_row(next, handle, position, 1, true);
    return run(next);
  }

  TableForward forward_{kVocabSize};
  std::unique_ptr<kernels::Ops> ops_ = kernels::cpu::make_cpu_ops({});
  StepExecutor executor_{forward_, *ops_, test_limits(), 1};
};

}  // namespace beryl::engine
