#include "worker/service/rank_model.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <stdexcept>
#include <vector>

#include "parallel/base/progress.h"
#include "parallel/wire/limits.h"
#include "parallel/wire/validate.h"
#include "worker/service/fingerprint.h"
#include "worker/service/rank_device.h"

namespace beryl::service {
namespace {

// What each rank would do on its own; travels as bytes between ranks of one binary.
struct Proposal {
  std::array<char, wire::kMaxNameBytes> launch_id{};
  uint64_t fingerprint = 0;
  int32_t num_pages = 0;
  uint32_t max_model_len = 0;
  uint32_t failed = 0;  // this rank cannot start, for a reason it says itself
};

std::string random_launch_id() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}", random(), random());
}

Proposal make_proposal(const WorkerOptions& options, const MemoryPlan& plan) {
  Proposal proposal;
  const std::string id = options.launch_id.empty() ? random_launch_id() : options.launch_id;
  id.copy(proposal.launch_id.data(), proposal.launch_id.size() - 1);
  proposal.fingerprint = model_fingerprint(options);
  proposal.num_pages = plan.cache.size.num_pages;
  proposal.max_model_len = plan.cache.max_model_len;
  return proposal;
}

MemoryPlan plan_own_memory(const WorkerOptions& options, const model::ModelConfig& config,
                           int num_ranks, int num_local_ranks) {
  MemoryPlan plan =
      plan_memory(options, config, find_rank_memory(options, num_local_ranks), num_ranks);
  if (plan.missing_bytes > 0) {
    throw std::runtime_error(explain_missing(plan, options, config, num_ranks));
  }
  return plan;
}

std::vector<Proposal> exchange(const Proposal& own, comm::Communicator& communicator) {
  std::vector<Proposal> all(static_cast<size_t>(communicator.size()));
  const auto status = communicator.all_gather(std::as_bytes(std::span(&own, 1)),
                                              std::as_writable_bytes(std::span(all)));
  if (!status)
    throw std::runtime_error("the ranks cannot reach each other: " + status.error().message);
  return all;
}

weights::ModelWeights load_weights(const WorkerOptions& options, const model::ModelConfig& config,
                                   const weights::LoadOptions& load) {
  if (options.load_format == "dummy") {
    return weights::ModelWeights::from_seed(
        config, {.seed = options.seed, .post_norm = options.dummy_post_norm}, load);
  }
  return weights::ModelWeights::from_checkpoint(config,
                                                weights::Checkpoint::open(options.model_dir), load);
}

weights::LoadOptions load_options(kernels::Ops& ops, const expert::Placement& placement, int rank,
                                  int num_threads) {
  weights::LoadOptions load;
  load.ops = &ops;
  load.local_experts = placement.local_experts(rank);
  load.num_threads = num_threads;
  // One bar is enough: ranks load parts of about the same size at the same time.
  if (rank == 0) load.progress = base::terminal_progress("weights", stderr);
  return load;
}

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "unknown";
  return wire::clean_reason(name.data());
}

}  // namespace

LaunchPlan agree_on_launch(const WorkerOptions& options, const model::ModelConfig& config,
                           comm::Communicator& communicator, int num_local_ranks) {
  LaunchPlan plan;
  Proposal own;
  std::string failure;
  try {
    plan.memory = plan_own_memory(options, config, communicator.size(), num_local_ranks);
    own = make_proposal(options, plan.memory);
  } catch (const std::runtime_error& error) {
    // Still takes part, so that the other ranks end at once and not by a deadline.
    failure = error.what();
    own.failed = 1;
  }
  const std::vector<Proposal> all = exchange(own, communicator);
  if (!failure.empty()) throw std::runtime_error(failure);

  plan.launch_id = all.front().launch_id.data();
  plan.fingerprint = own.fingerprint;
  plan.cache = {.block_size = static_cast<int>(options.block_size), .num_pages = own.num_pages};
  plan.max_model_len = own.max_model_len;
  for (size_t rank = 0; rank < all.size(); ++rank) {
    const Proposal& other = all[rank];
    if (other.failed != 0) throw std::runtime_error(fmt::format("rank {} cannot start", rank));
    if (other.fingerprint != own.fingerprint) {
      throw std::runtime_error(
          fmt::format("rank {} holds another model than rank {}: all ranks need the same "
                      "MODEL_DIR content, --load-format and --seed",
                      rank, communicator.rank()));
    }
    plan.cache.num_pages = std::min(plan.cache.num_pages, other.num_pages);
    plan.max_model_len = std::min(plan.max_model_len, other.max_model_len);
  }
  return plan;
}

RankModel::RankModel(const WorkerOptions& options, const model::ModelConfig& config,
                     const LaunchPlan& plan, comm::Communicator& communicator, int num_threads)
    : ops_(make_rank_ops(options, num_threads)),
      placement_(expert::Placement::contiguous(config.num_experts, communicator.size())),
      weights_(load_weights(options, config,
                            load_options(*ops_, placement_, communicator.rank(), num_threads))),
      exchange_(communicator, *ops_, placement_,
                {.hidden_size = config.hidden_size,
                 .top_k = config.top_k_experts,
                 .max_rows = static_cast<int>(options.max_num_batched_tokens)}),
      cache_(config, plan.cache, *ops_),
      decoder_({.config = config,
                .weights = weights_,
                .ops = *ops_,
                .exchange = exchange_,
                .cache = cache_},
               {.max_rows = static_cast<int>(options.max_num_batched_tokens)}) {
  if (num_feature_tokens(options, config) == 0) return;
  vision_tower_.emplace(model::VisionTowerParts{config, *weights_.vision(), *ops_});
}

wire::Registration make_registration(const WorkerOptions& options, const model::ModelConfig& config,
                                     const LaunchPlan& plan, const comm::Communicator& communicator,
                                     const std::string& device) {
  wire::Registration registration;
  registration.set_launch_id(plan.launch_id);
  registration.set_group(options.group);
  registration.set_rank(static_cast<uint32_t>(communicator.rank()));
  registration.set_num_ranks(static_cast<uint32_t>(communicator.size()));
  registration.set_host(host_name());
  registration.set_pid(::getpid());
  registration.set_device(device);
  registration.set_version(BERYL_VERSION);
  wire::ModelFacts& model = *registration.mutable_model();
  model.set_vocab_size(static_cast<uint32_t>(config.vocab_size));
  model.set_max_model_len(plan.max_model_len);
  model.set_sliding_window(static_cast<uint32_t>(config.sliding_window));
  model.set_num_hidden_layers(static_cast<uint32_t>(config.num_hidden_layers));
  model.set_num_experts(static_cast<uint32_t>(config.num_experts));
  model.set_top_k_experts(static_cast<uint32_t>(config.top_k_experts));
  for (const int32_t id :
       {config.media.boi, config.media.eoi, config.media.image, config.media.video}) {
    if (id >= 0 && id < config.vocab_size) {
      model.add_forbidden_token_ids(static_cast<uint32_t>(id));
    }
  }
  model.set_fingerprint(plan.fingerprint);
  wire::CacheFacts& cache = *registration.mutable_cache();
  cache.set_block_size(static_cast<uint32_t>(plan.cache.block_size));
  cache.set_num_pages(static_cast<uint32_t>(plan.cache.num_pages));
  const cache::PageLayout layout =
      cache::page_layout(config, plan.cache.block_size, kv_dtype(options));
  cache.set_global_blocks_per_page(static_cast<uint32_t>(layout.global_blocks));
  cache.set_max_num_seqs(options.max_num_seqs);
  cache.set_max_num_batched_tokens(options.max_num_batched_tokens);
  cache.set_num_feature_tokens(num_feature_tokens(options, config));
  if (cache.num_feature_tokens() > 0) {
    cache.set_max_picture_patches(static_cast<uint32_t>(model::kMaxImagePatches));
  }
  return registration;
}

}  // namespace beryl::service
