// What the ranks of a local group share. Exchange number n of every rank is the same collective:
// a rank publishes its send buffer, waits until all have, pulls its parts out of the peers'
// buffers, and leaves once all peers have pulled.
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"

namespace beryl::comm {

class LocalGroup {
 public:
  LocalGroup(int size, std::chrono::milliseconds deadline);

  enum class Kind : uint8_t { kAllToAllV, kAllGather, kBarrier };

  // Publishes collective `sequence` of `rank`. `send_offsets` is copied.
  base::Status post(int rank, uint64_t sequence, Kind kind, const std::byte* send,
                    std::span<const size_t> send_offsets);

  // Completes it. `recv_offsets` as in ExchangeBuffers.
  base::Status complete(int rank, uint64_t sequence, std::byte* recv,
                        std::span<const size_t> recv_offsets);

  // The first reason stays.
  void fail(const std::string& reason) noexcept;
  // fail(), and returns once no peer reads this rank's buffers any more.
  void fail_and_settle(const std::string& reason) noexcept;

  int size() const { return size_; }

 private:
  struct Post {
    Kind kind = Kind::kBarrier;
    const std::byte* send = nullptr;
    std::vector<size_t> send_offsets;  // [size + 1]; all_gather: every part is the whole
  };

  Post& post_of(int rank, uint64_t sequence) {
    return posts_[sequence % kMaxOutstandingExchanges][static_cast<size_t>(rank)];
  }
  static bool all_passed(const std::vector<uint64_t>& counts, uint64_t sequence);
  base::Status wait_for_all(std::unique_lock<std::mutex>& lock, const std::vector<uint64_t>& counts,
                            uint64_t sequence);
  std::string pull(int rank, uint64_t sequence, std::byte* recv,
                   std::span<const size_t> recv_offsets);
  void mark_dead(const std::string& reason);  // lock held
  base::Error dead_error() const;             // lock held

  const int size_;
  const std::chrono::milliseconds deadline_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::array<std::vector<Post>, kMaxOutstandingExchanges> posts_;  // [size] each
  std::vector<uint64_t> posted_;    // [size] collectives published by each rank
  std::vector<uint64_t> finished_;  // [size] collectives pulled by each rank
  int num_pulling_ = 0;             // ranks that read peers' buffers right now
  bool dead_ = false;
  std::string reason_;
};

}  // namespace beryl::comm
