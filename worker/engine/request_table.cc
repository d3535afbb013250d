#include "worker/engine/request_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

namespace beryl::engine {
namespace {

base::Error contradiction(std::string message) {
  return base::Error{base::ErrorCode::kInvalidArgument, std::move(message), "plan", {}};
}

}  // namespace

RequestTable::RequestTable(const wire::GroupLimits& limits)
    : limits_(limits), requests_(limits.cache.max_num_seqs()), owners_(limits.cache.num_pages()) {}

size_t RequestTable::num_requests() const {
  return static_cast<size_t>(std::count_if(requests_.begin(), requests_.end(),
                                           [](const auto& slot) { return slot.has_value(); }));
}

uint32_t RequestTable::first_sliding_block(uint32_t start) const {
  const uint32_t reach = limits_.model.sliding_window() - 1;
  return (start > reach ? start - reach : 0) / limits_.cache.block_size();
}

base::Status RequestTable::release(uint32_t handle) {
  auto& slot = requests_[handle];
  if (!slot) return contradiction(fmt::format("release of handle {}, which is free", handle));
  for (const int32_t block : slot->global_blocks) {
    owners_.drop(static_cast<uint32_t>(block) / limits_.cache.global_blocks_per_page(), handle);
  }
  for (const int32_t page : slot->sliding_blocks) {
    owners_.drop(static_cast<uint32_t>(page), handle);
  }
  slot.reset();
  return base::Status::ok();
}

base::Status RequestTable::admit(const wire::Admission& admission) {
  auto& slot = requests_[admission.handle()];
  if (slot) {
    return contradiction(fmt::format("admission of handle {}, which is taken", admission.handle()));
  }
  RequestState state;
  state.request_seed = admission.request_seed();
  state.num_prompt_tokens = admission.num_prompt_tokens();
  state.token_ids.assign(admission.token_ids().begin(), admission.token_ids().end());
  for (const wire::PictureSpan& span : admission.pictures()) {
    state.pictures.push_back({picture_key(span.key()), span.start(), span.num_tokens()});
  }
  const auto& forbidden = limits_.model.forbidden_token_ids();
  state.sampling =
      SamplingState(admission.sampling(), {forbidden.data(), static_cast<size_t>(forbidden.size())},
                    limits_.model.vocab_size());
  for (size_t i = 0; i < state.token_ids.size(); ++i) {
    if (i < state.num_prompt_tokens) {
      state.sampling.count_prompt_token(state.token_ids[i]);
    } else {
      state.sampling.count_output_token(state.token_ids[i]);
    }
  }
  slot = std::move(state);
  return base::Status::ok();
}

base::Status RequestTable::check_row(const wire::Row& row) const {
  const auto& slot = requests_[row.handle()];
  if (!slot) return contradiction(fmt::format("row of handle {}, which is free", row.handle()));
  if (row.start() != slot->num_computed_tokens) {
    return contradiction(fmt::format("row of handle {} starts at {}, {} positions are computed",
                                     row.handle(), row.start(), slot->num_computed_tokens));
  }
  const uint64_t end = uint64_t{row.start()} + row.count();
  for (const PictureSpan& picture : slot->pictures) {
    const bool overlaps = picture.start < end && row.start() < picture.end();
    if (overlaps && (picture.start < row.start() || end < picture.end())) {
      return contradiction(
          fmt::format("row of handle {} from {} to {} cuts the picture from {} to {}", row.handle(),
                      row.start(), end, picture.start, picture.end()));
    }
  }
  if (slot->failed) return base::Status::ok();
  if (end > slot->token_ids.size() || (row.sample() && end != slot->token_ids.size())) {
    return contradiction(fmt::format("row of handle {} ends at {}, {} tokens are known",
                                     row.handle(), end, slot->token_ids.size()));
  }
  return base::Status::ok();
}

base::Status RequestTable::take_page(uint32_t page, const PageOwner& owner) {
  const PageOwner& holder = owners_.of(page);
  // Pages that a window has left come back without a word.
  const bool is_live =
      holder.handle >= 0 &&
      (holder.is_global ||
       holder.number >=
           first_sliding_block(requests_[static_cast<size_t>(holder.handle)]->num_computed_tokens));
  if (is_live) return contradiction(fmt::format("page {} has two owners", page));
  owners_.take(page, owner);
  return base::Status::ok();
}

base::Status RequestTable::add_global_block(uint32_t handle, uint32_t block) {
  RequestState& state = *requests_[handle];
  const uint32_t blocks_per_page = limits_.cache.global_blocks_per_page();
  const auto number = static_cast<uint32_t>(state.global_blocks.size());
  if (number % blocks_per_page == 0) {
    const PageOwner owner = {handle, /*is_global=*/true, number / blocks_per_page};
    if (auto status = take_page(block / blocks_per_page, owner); !status) return status;
  }
  const uint32_t expected = number % blocks_per_page == 0
                                ? block / blocks_per_page * blocks_per_page
                                : static_cast<uint32_t>(state.global_blocks.back()) + 1;
  if (block != expected) {
    return contradiction(fmt::format("global block {} where {} follows", block, expected));
  }
  state.global_blocks.push_back(static_cast<int32_t>(block));
  return base::Status::ok();
}

base::Status RequestTable::add_sliding_block(uint32_t handle, uint32_t page) {
  RequestState& state = *requests_[handle];
  const auto number = static_cast<uint32_t>(state.sliding_blocks.size());
  if (auto status = take_page(page, {handle, /*is_global=*/false, number}); !status) return status;
  state.sliding_blocks.push_back(static_cast<int32_t>(page));
  return base::Status::ok();
}

base::Status RequestTable::extend(const wire::Row& row) {
  if (auto status = check_row(row); !status) return status;
  RequestState& state = *requests_[row.handle()];
  for (const uint32_t block : row.new_global_blocks()) {
    if (auto status = add_global_block(row.handle(), block); !status) return status;
  }
  for (const uint32_t page : row.new_sliding_blocks()) {
    if (auto status = add_sliding_block(row.handle(), page); !status) return status;
  }
  const uint64_t end = uint64_t{row.start()} + row.count();
  const uint64_t block_size = limits_.cache.block_size();
  if (state.global_blocks.size() * block_size < end ||
      state.sliding_blocks.size() * block_size < end) {
    return contradiction(
        fmt::format("row of handle {} ends at {}, beyond its blocks", row.handle(), end));
  }
  return base::Status::ok();
}

}  // namespace beryl::engine
