// RankRunner: one rank of a model without coordinator and scheduler, for parity checks, bitwise
// tests and benchmarks. It keeps the block tables of a few requests and runs steps that are spelled
// out by the caller, the same on all ranks.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "bench/model/feature_span.h"
#include "kernels/ops.h"
#include "parallel/base/expected.h"
#include "parallel/comm/communicator.h"
#include "parallel/expert/expert_exchange.h"
#include "worker/cache/kv_cache.h"
#include "worker/model/decoder.h"

namespace beryl::bench {

// The next tokens of one request.
struct Segment {
  int request_id = 0;
  std::vector<int32_t> token_ids;
  std::vector<int32_t> logits_offsets;  // tokens of the segment whose logits are wanted, ascending
  // Pictures of the request. Those outside of the segment are ignored, none may be cut by it.
  std::vector<FeatureSpan> spans = {};
};

// A segment that wants all logits, and one that wants those of its last token.
Segment scored_segment(int request_id, std::vector<int32_t> token_ids);
Segment sampled_segment(int request_id, std::vector<int32_t> token_ids);

// What each rank runs in one step. [size]
using GroupStep = std::vector<std::vector<Segment>>;

struct RunnerLimits {
  int max_rows = 256;        // of one rank in a step
  int max_positions = 1024;  // of all live requests of a rank together
  int max_requests = 64;     // live on a rank
  int block_size = 16;
  int max_logits_rows = 64;
  int round_capacity = 1024;  // of the exchange, exact mode
};

// Row of the last step: whose it is and where.
struct RowPlace {
  int request_id = 0;
  int position = 0;
};

// What a runner works with; everything must outlive it.
struct RunnerParts {
  const model::ModelConfig& config;
  const weights::ModelWeights& weights;
  kernels::Ops& ops;
  comm::Communicator& communicator;
  const expert::Placement& placement;
};

class RankRunner {
 public:
  RankRunner(const RunnerParts& parts, const RunnerLimits& limits);

  // Collective. The observer sees host memory.
  base::Status run(const GroupStep& step, expert::StepMode mode,
                   model::LayerObserver* observer = nullptr);

  // Of entry i of logits_rows(), in host memory. Computes slices on demand.
  const float* logits(int i);
  const std::vector<int32_t>& logits_rows() const { return logits_rows_; }
  const std::vector<RowPlace>& rows() const { return rows_; }

  // Gives the blocks of a request back.
  void drop(int request_id);
  void drop_all();

 private:
  struct Request {
    int num_computed_tokens = 0;
    int first_sliding_block = 0;
    std::vector<int32_t> global_blocks;
    std::vector<int32_t> sliding_blocks;  // from first_sliding_block on
  };
  struct Table {
    std::vector<int32_t> block_ids;
    std::vector<int32_t> offsets;
    std::vector<int32_t> first_block;
    kernels::BlockTableView view(int block_size) const {
      return {block_ids.data(), offsets.data(), first_block.data(), block_size};
    }
  };

  void build_batch(const std::vector<Segment>& segments);
  void add_spans(const Segment& segment, int begin, int end);
  void extend(Request* request, int num_tokens);
  void append_table(const std::vector<int32_t>& blocks, int first_block, Table* table);

  const model::ModelConfig& config_;
  RunnerLimits limits_;
  kernels::Ops& ops_;
  comm::Communicator& communicator_;
  expert::ExpertExchange exchange_;
  cache::KvCache cache_;
  model::Decoder decoder_;

  std::map<int, Request> requests_;
  std::vector<int32_t> free_pages_;

  std::vector<RowPlace> rows_;
  std::vector<int32_t> token_ids_;
  std::vector<int32_t> positions_;
  std::vector<int32_t> visible_end_;
  std::vector<model::FeatureRows> features_;
  std::vector<int32_t> query_start_loc_;
  std::vector<uint64_t> request_seeds_;
  std::vector<int32_t> logits_rows_;
  Table global_table_;
  Table sliding_table_;
  int slice_begin_ = 0;
  int slice_end_ = 0;
  kernels::TensorView slice_;
  std::vector<float> slice_copy_;  // where slice_ lies on a device
};

}  // namespace beryl::bench
