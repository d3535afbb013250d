#include "parallel/comm/local_group.h"

#include <algorithm>
#include <cstring>

#include "parallel/base/assert.h"

namespace beryl::comm {

LocalGroup::LocalGroup(int size, std::chrono::milliseconds deadline)
    : size_(size),
      deadline_(deadline),
      posted_(static_cast<size_t>(size)),
      finished_(static_cast<size_t>(size)) {
  for (auto& posts : posts_) {
    posts.resize(static_cast<size_t>(size));
    for (Post& post : posts) post.send_offsets.resize(static_cast<size_t>(size) + 1);
  }
}

base::Status LocalGroup::post(int rank, uint64_t sequence, Kind kind, const std::byte* send,
                              std::span<const size_t> send_offsets) {
  const std::lock_guard lock(mutex_);
  if (dead_) return dead_error();
  Post& post = post_of(rank, sequence);
  post.kind = kind;
  post.send = send;
  std::copy(send_offsets.begin(), send_offsets.end(), post.send_offsets.begin());
  posted_[static_cast<size_t>(rank)] = sequence + 1;
  if (all_passed(posted_, sequence)) changed_.notify_all();
  return base::Status::ok();
}

base::Status LocalGroup::complete(int rank, uint64_t sequence, std::byte* recv,
                                  std::span<const size_t> recv_offsets) {
  std::unique_lock lock(mutex_);
  if (base::Status status = wait_for_all(lock, posted_, sequence); !status) return status;
  ++num_pulling_;
  lock.unlock();
  const std::string mistake = pull(rank, sequence, recv, recv_offsets);
  lock.lock();
  --num_pulling_;
  if (!mistake.empty()) mark_dead(mistake);
  finished_[static_cast<size_t>(rank)] = sequence + 1;
  if (dead_ || all_passed(finished_, sequence)) changed_.notify_all();
  if (!mistake.empty()) {
    changed_.wait(lock, [&] { return num_pulling_ == 0; });
    return base::Error{base::ErrorCode::kInternal, mistake, {}, {}};
  }
  return wait_for_all(lock, finished_, sequence);
}

// A collective that is complete counts as such even if the group died just afterwards.
base::Status LocalGroup::wait_for_all(std::unique_lock<std::mutex>& lock,
                                      const std::vector<uint64_t>& counts, uint64_t sequence) {
  const auto deadline = std::chrono::steady_clock::now() + deadline_;
  const bool in_time =
      changed_.wait_until(lock, deadline, [&] { return dead_ || all_passed(counts, sequence); });
  const bool is_pull = &counts == &posted_;
  if (all_passed(counts, sequence) && !(is_pull && dead_)) return base::Status::ok();
  if (!in_time) {
    for (size_t peer = 0; peer < counts.size(); ++peer) {
      if (counts[peer] > sequence) continue;
      mark_dead(fmt::format("rank {} did not come to collective {} within {} ms", peer, sequence,
                            deadline_.count()));
    }
  }
  changed_.wait(lock, [&] { return num_pulling_ == 0; });  // lasts no longer than a memcpy
  return dead_error();
}

std::string LocalGroup::pull(int rank, uint64_t sequence, std::byte* recv,
                             std::span<const size_t> recv_offsets) {
  const Kind kind = post_of(rank, sequence).kind;
  for (int i = 0; i < size_; ++i) {
    const auto peer = static_cast<size_t>((rank + i) % size_);  // spread the readers
    const Post& post = post_of(static_cast<int>(peer), sequence);
    if (post.kind != kind) {
      return fmt::format("ranks {} and {} are in different collectives (number {})", rank, peer,
                         sequence);
    }
    if (kind == Kind::kBarrier) continue;
    const bool whole = kind == Kind::kAllGather;
    const auto me = static_cast<size_t>(rank);
    const size_t begin = whole ? 0 : post.send_offsets[me];
    const size_t sent = whole ? post.send_offsets[1] : post.send_offsets[me + 1] - begin;
    const size_t wanted = recv_offsets[peer + 1] - recv_offsets[peer];
    if (sent != wanted) {
      return fmt::format("rank {} sends {} bytes to rank {}, which expects {} (number {})", peer,
                         sent, rank, wanted, sequence);
    }
    if (sent > 0) std::memcpy(recv + recv_offsets[peer], post.send + begin, sent);
  }
  return {};
}

bool LocalGroup::all_passed(const std::vector<uint64_t>& counts, uint64_t sequence) {
  return std::all_of(counts.begin(), counts.end(), [&](uint64_t n) { return n > sequence; });
}

void LocalGroup::fail(const std::string& reason) noexcept {
  const std::lock_guard lock(mutex_);
  mark_dead(reason);
}

void LocalGroup::fail_and_settle(const std::string& reason) noexcept {
  std::unique_lock lock(mutex_);
  mark_dead(reason);
  changed_.wait(lock, [&] { return num_pulling_ == 0; });
}

void LocalGroup::mark_dead(const std::string& reason) {
  if (!dead_) reason_ = reason;
  dead_ = true;
  changed_.notify_all();
}

base::Error LocalGroup::dead_error() const {
  return base::Error{base::ErrorCode::kUnavailable, "the rank group ended: " + reason_, {}, {}};
}

}  // namespace beryl::comm
