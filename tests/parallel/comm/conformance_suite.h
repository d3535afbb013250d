// What every back end must do. A test program includes this file once and instantiates
// ConformanceTest with its back end.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "parallel/comm/communicator.h"

namespace beryl::comm {

using RankFunction = std::function<void(std::unique_ptr<Communicator>&)>;

struct Backend {
  std::string name;
  // Runs the function on every rank of a fresh group (of those in this process).
  std::function<void(std::chrono::milliseconds deadline, const RankFunction&)> run;
};

class ConformanceTest : public testing::TestWithParam<Backend> {
 protected:
  void run(const RankFunction& work) const { GetParam().run(std::chrono::seconds(20), work); }
  void run(std::chrono::milliseconds deadline, const RankFunction& work) const {
    GetParam().run(deadline, work);
  }
};

// One all-to-all whose sizes and bytes follow from a seed, so that every rank knows what all send.
class SeededExchange {
 public:
  SeededExchange(const Communicator& communicator, uint64_t seed, size_t max_bytes)
      : seed_(seed), max_bytes_(max_bytes), rank_(communicator.rank()), size_(communicator.size()) {
    send_offsets_.push_back(0);
    recv_offsets_.push_back(0);
    for (int peer = 0; peer < size_; ++peer) {
      append(rank_, peer, send_, send_offsets_);
      append(peer, rank_, wanted_, recv_offsets_);
    }
    recv_.resize(wanted_.size(), std::byte{0xEE});
  }

  ExchangeBuffers buffers() { return {send_.data(), send_offsets_, recv_.data(), recv_offsets_}; }
  bool is_right() const { return recv_ == wanted_; }

 private:
  // A third of the parts are empty.
  void append(int from, int to, std::vector<std::byte>& bytes, std::vector<size_t>& offsets) {
    std::mt19937_64 random(seed_ * 1000 + static_cast<uint64_t>(from * 32 + to));
    const size_t num_bytes = random() % 3 == 0 ? 0 : random() % (max_bytes_ + 1);
    uint64_t value = random();
    for (size_t i = 0; i < num_bytes; ++i) {
      value = value * 6364136223846793005 + 1442695040888963407;
      bytes.push_back(static_cast<std::byte>(value >> 56));
    }
    offsets.push_back(bytes.size());
  }

  const uint64_t seed_;
  const size_t max_bytes_;
  const int rank_;
  const int size_;
  std::vector<size_t> send_offsets_;
  std::vector<size_t> recv_offsets_;
  std::vector<std::byte> send_;
  std::vector<std::byte> recv_;
  std::vector<std::byte> wanted_;
};

inline void expect_unavailable(const base::Status& status) {
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, base::ErrorCode::kUnavailable) << status.error().message;
}

TEST_P(ConformanceTest, ManyUnequalExchangesInARow) {
  run([](std::unique_ptr<Communicator>& communicator) {
    for (uint64_t seed = 0; seed < 60; ++seed) {
      SeededExchange exchange(*communicator, seed, seed % 2 == 0 ? 40 : 20'000);
      auto pending = communicator->start_all_to_all_v(exchange.buffers());
      ASSERT_TRUE(pending) << pending.error().message;
      const base::Status status = pending.value()->wait();
      ASSERT_TRUE(status) << status.error().message;
      EXPECT_TRUE(exchange.is_right());
    }
  });
}

TEST_P(ConformanceTest, LargeParts) {
  run([](std::unique_ptr<Communicator>& communicator) {
    SeededExchange exchange(*communicator, 1, 3'000'000);
    auto pending = communicator->start_all_to_all_v(exchange.buffers());
    ASSERT_TRUE(pending);
    ASSERT_TRUE(pending.value()->wait());
    EXPECT_TRUE(exchange.is_right());
  });
}

TEST_P(ConformanceTest, TwoExchangesUnderWay) {
  run([](std::unique_ptr<Communicator>& communicator) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      SeededExchange first(*communicator, 2 * seed, 9'000);
      SeededExchange second(*communicator, 2 * seed + 1, 9'000);
      auto first_pending = communicator->start_all_to_all_v(first.buffers());
      ASSERT_TRUE(first_pending);
      auto second_pending = communicator->start_all_to_all_v(second.buffers());
      ASSERT_TRUE(second_pending);
      ASSERT_TRUE(first_pending.value()->wait());
      EXPECT_TRUE(first.is_right());
      ASSERT_TRUE(second_pending.value()->wait());
      EXPECT_TRUE(second.is_right());
    }
  });
}

TEST_P(ConformanceTest, AllGather) {
  run([](std::unique_ptr<Communicator>& communicator) {
    const int size = communicator->size();
    for (int length : {0, 1, 5, 10'000}) {
      const std::vector<int> mine(static_cast<size_t>(length), communicator->rank() + 100);
      std::vector<int> all(static_cast<size_t>(size * length), -1);
      ASSERT_TRUE(communicator->all_gather(std::as_bytes(std::span(mine)),
                                           std::as_writable_bytes(std::span(all))));
      for (int i = 0; i < size * length; ++i) {
        ASSERT_EQ(all[static_cast<size_t>(i)], i / length + 100);
      }
    }
  });
}

TEST_P(ConformanceTest, BarrierWaitsForTheLast) {
  run([](std::unique_ptr<Communicator>& communicator) {
    constexpr std::chrono::milliseconds kDelay{80};
    ASSERT_TRUE(communicator->barrier());
    const auto start = std::chrono::steady_clock::now();
    if (communicator->rank() == 0) std::this_thread::sleep_for(kDelay);
    ASSERT_TRUE(communicator->barrier());
    EXPECT_GE(std::chrono::steady_clock::now() - start, kDelay / 2);
  });
}

TEST_P(ConformanceTest, APeerThatNeverComesIsAnError) {
  constexpr std::chrono::milliseconds kDeadline{150};
  run(kDeadline, [&](std::unique_ptr<Communicator>& communicator) {
    if (communicator->size() == 1) return;
    const auto start = std::chrono::steady_clock::now();
    if (communicator->rank() == 0) std::this_thread::sleep_for(4 * kDeadline);
    expect_unavailable(communicator->barrier());
    expect_unavailable(communicator->barrier());  // stays dead
    EXPECT_LT(std::chrono::steady_clock::now() - start, 20 * kDeadline);
  });
}

TEST_P(ConformanceTest, AbortFromAnotherThreadWakesEverybody) {
  run([](std::unique_ptr<Communicator>& communicator) {
    const auto start = std::chrono::steady_clock::now();
    const bool aborts = communicator->rank() == communicator->size() - 1;
    std::thread other([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      if (aborts) communicator->abort();
    });
    if (communicator->rank() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(200));
    expect_unavailable(communicator->barrier());
    other.join();
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  });
}

TEST_P(ConformanceTest, DifferentSizesAreAnError) {
  run([](std::unique_ptr<Communicator>& communicator) {
    if (communicator->size() == 1) return;
    const auto size = static_cast<size_t>(communicator->size());
    // Rank 0 sends 8 bytes to each peer, which expect 4 from everybody.
    std::vector<size_t> send_offsets(size + 1);
    std::vector<size_t> recv_offsets(size + 1);
    for (size_t i = 0; i <= size; ++i) {
      recv_offsets[i] = 4 * i;
      send_offsets[i] = communicator->rank() == 0 && i > 0 ? 4 + 8 * (i - 1) : 4 * i;
    }
    std::vector<std::byte> send(8 * size);
    std::vector<std::byte> recv(8 * size);
    auto pending =
        communicator->start_all_to_all_v({send.data(), send_offsets, recv.data(), recv_offsets});
    base::Status status;
    if (pending) {
      status = pending.value()->wait();
    } else {
      status = pending.error();
    }
    EXPECT_TRUE(communicator->rank() == 0 || !status);
    EXPECT_FALSE(communicator->barrier());
  });
}

TEST_P(ConformanceTest, DroppingAnExchangeEndsTheGroup) {
  run([](std::unique_ptr<Communicator>& communicator) {
    SeededExchange exchange(*communicator, 1, 100);
    { auto pending = communicator->start_all_to_all_v(exchange.buffers()); }
    expect_unavailable(communicator->barrier());
  });
}

}  // namespace beryl::comm
