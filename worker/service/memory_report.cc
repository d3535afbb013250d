#include "worker/service/memory_report.h"

#include <fmt/format.h>

#include "parallel/base/progress.h"

namespace beryl::service {
namespace {

constexpr uint64_t kReportedLengths[] = {16'384, 1'024};
constexpr uint32_t kTokenUnit = 1024;

std::string bytes(uint64_t num_bytes) {
  return base::format_bytes(static_cast<double>(num_bytes));
}

std::string line(const std::string& name, uint64_t num_bytes, const std::string& note = {}) {
  return fmt::format("  {:<40} {:>10}{}{}", name, bytes(num_bytes), note.empty() ? "" : "  ", note);
}

std::string head(const MemoryPlan& plan) {
  const RankMemory& memory = plan.memory;
  if (!memory.is_device) {
    return fmt::format("memory of a rank on {}: {} of what is available", memory.name,
                       bytes(plan.usable_bytes));
  }
  return fmt::format("memory of a rank on {}: {} of {}, {} free", memory.name,
                     bytes(plan.usable_bytes), bytes(memory.total_bytes), bytes(memory.free_bytes));
}

// What the plan needs more with this change. Both without a size of the cache that was asked for.
uint64_t fixed_cost(const MemoryPlan& plan, const WorkerOptions& more,
                    const model::ModelConfig& config, int num_ranks) {
  const MemoryPlan other = plan_memory(more, config, plan.memory, num_ranks);
  return other.fixed_bytes - std::min(other.fixed_bytes, plan.fixed_bytes);
}

}  // namespace

std::vector<std::string> memory_table(const MemoryPlan& plan, const model::ModelConfig& config,
                                      const CachePlan& cache) {
  std::vector<std::string> lines = {head(plan)};
  for (const MemoryPart& part : plan.parts) {
    lines.push_back(line(part.name, part.num_bytes, part.is_mapped() ? "mapped files" : ""));
  }
  const cache::PageLayout layout =
      cache::page_layout(config, cache.size.block_size, plan.cache_request.kv_dtype);
  const uint64_t kept = cache_bytes(config, cache.size, plan.cache_request.kv_dtype);
  lines.push_back(
      line("KV cache", kept,
           fmt::format("{} pages of {}, each for {} tokens of sliding layers or {} of "
                       "global ones",
                       cache.size.num_pages, bytes(layout.page_bytes()), cache.size.block_size,
                       cache.size.block_size * layout.global_blocks)));
  const uint64_t used = plan.fixed_bytes + kept;
  lines.push_back(line("not used", plan.usable_bytes - std::min(plan.usable_bytes, used)));
  const auto fit = [&](uint64_t length) {
    return num_requests_that_fit(config, plan.cache_request, cache.size, length);
  };
  std::string held = fmt::format("  the KV cache holds {} requests of {} tokens (--max-model-len)",
                                 fit(cache.max_model_len), cache.max_model_len);
  for (const uint64_t length : kReportedLengths) {
    if (cache.max_model_len > length) held += fmt::format(", {} of {}", fit(length), length);
  }
  lines.push_back(held);
  return lines;
}

std::string dry_run_report(const MemoryPlan& plan, const WorkerOptions& options,
                           const model::ModelConfig& config, int num_ranks) {
  std::string text;
  if (plan.missing_bytes > 0) {
    text = explain_missing(plan, options, config, num_ranks) + "\n";
  } else {
    for (const std::string& row : memory_table(plan, config, plan.cache)) text += row + "\n";
  }
  text += "What options cost:\n";
  const auto add = [&text](const std::string& name, uint64_t num_bytes, const std::string& note) {
    text += line(name, num_bytes, note) + "\n";
  };
  WorkerOptions more = options;
  more.max_num_batched_tokens += kTokenUnit;
  const RequestBytes unit = request_bytes(config, plan.cache_request, kTokenUnit);
  add("--max-num-batched-tokens", fixed_cost(plan, more, config, num_ranks),
      fmt::format("for {} more, and {} of the KV cache", kTokenUnit, bytes(unit.sliding)));
  const auto window = static_cast<uint64_t>(config.sliding_window);
  const RequestBytes request = request_bytes(config, plan.cache_request, window);
  const RequestBytes longer = request_bytes(config, plan.cache_request, window + kTokenUnit);
  add("--max-num-seqs", request.sliding + request.global,
      fmt::format("of the KV cache for a request of {} tokens", window));
  add("--max-model-len", longer.global - request.global,
      fmt::format("of the KV cache for {} more of a request", kTokenUnit));
  if (num_feature_tokens(options, config) > 0) {
    more = options;
    more.feature_cache_tokens += kTokenUnit;
    add("--feature-cache-tokens", fixed_cost(plan, more, config, num_ranks),
        fmt::format("for {} more soft tokens", kTokenUnit));
  }
  if (plan.memory.is_device) {
    add("--gpu-memory-utilization", plan.memory.total_bytes / 100, "for 0.01");
  }
  add("--kv-cache-memory", plan.cache_budget,
      options.kv_cache_memory > 0 ? "as given" : "what the rest leaves, as none is given");
  return text;
}

}  // namespace beryl::service
