// RequestTable: what a rank keeps of its requests between steps, by handle. Every change is checked
// against what is there, so that a plan which contradicts it is refused before anything runs.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "parallel/base/expected.h"
#include "parallel/wire/validate.h"
#include "worker/engine/feature_store.h"
#include "worker/engine/page_owners.h"
#include "worker/engine/sampling_state.h"

namespace beryl::engine {

// Soft tokens of a prompt that take the features of a picture. They see each other, so that their
// rows are in one step.
struct PictureSpan {
  PictureKey key;
  uint32_t start = 0;  // position of the first one
  uint32_t num_tokens = 0;

  uint32_t end() const { return start + num_tokens; }
};

struct RequestState {
  uint64_t request_seed = 0;
  std::vector<PictureSpan> pictures;  // ascending, apart from each other
  std::vector<int32_t> token_ids;     // prompt and output so far
  uint32_t num_prompt_tokens = 0;
  uint32_t num_computed_tokens = 0;  // positions whose keys and values are in the cache
  // Index = block number of the request: block b holds positions [b, b + 1) * block_size.
  std::vector<int32_t> global_blocks;
  std::vector<int32_t> sliding_blocks;  // those the window has left stay listed, unused
  SamplingState sampling;
  // It can go no further (its logits held a NaN); rows that were planned before this was known run
  // with token 0 and report the error again.
  bool failed = false;

  uint32_t num_output_tokens() const {
    return static_cast<uint32_t>(token_ids.size()) - num_prompt_tokens;
  }
  int32_t token_at(uint32_t position) const {
    return position < token_ids.size() ? token_ids[position] : 0;
  }
};

class RequestTable {
 public:
  explicit RequestTable(const wire::GroupLimits& limits);

  // The plan passed wire::validate. After an error the table is unusable: the epoch is over.
  base::Status release(uint32_t handle);
  base::Status admit(const wire::Admission& admission);
  // Adds the row's blocks and checks that its positions follow and are covered and that it cuts no
  // picture.
  base::Status extend(const wire::Row& row);

  RequestState& at(uint32_t handle) { return *requests_[handle]; }
  const RequestState& at(uint32_t handle) const { return *requests_[handle]; }
  size_t num_requests() const;

  // The first block whose positions a row at `start` still sees on sliding layers.
  uint32_t first_sliding_block(uint32_t start) const;

 private:
  base::Status check_row(const wire::Row& row) const;
  base::Status add_global_block(uint32_t handle, uint32_t block);
  base::Status add_sliding_block(uint32_t handle, uint32_t page);
  base::Status take_page(uint32_t page, const PageOwner& owner);

  const wire::GroupLimits& limits_;
  std::vector<std::optional<RequestState>> requests_;  // [max_num_seqs]
  PageOwners owners_;
};

}  // namespace beryl::engine
