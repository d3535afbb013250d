#include "parallel/comm/local_communicator.h"

#include <string>

#include "parallel/base/assert.h"
#include "parallel/comm/local_group.h"
#include "parallel/comm/outstanding.h"

namespace beryl::comm {
namespace {

class LocalCommunicator final : public Communicator {
 public:
  LocalCommunicator(std::shared_ptr<LocalGroup> group, int rank)
      : group_(std::move(group)), rank_(rank), gather_offsets_(static_cast<size_t>(size()) + 1) {}
  ~LocalCommunicator() override { group_->fail(fmt::format("rank {} left", rank_)); }

  int rank() const override { return rank_; }
  int size() const override { return group_->size(); }

  base::Expected<std::unique_ptr<PendingExchange>> start_all_to_all_v(
      const ExchangeBuffers& buffers) override;
  base::Status all_gather(std::span<const std::byte> send, std::span<std::byte> recv) override;
  base::Status barrier() override;
  void abort() noexcept override { group_->fail(fmt::format("rank {} aborted", rank_)); }

 private:
  friend class LocalExchange;
  base::Status finish(uint64_t sequence, std::byte* recv, std::span<const size_t> recv_offsets);

  std::shared_ptr<LocalGroup> group_;
  const int rank_;
  std::vector<size_t> gather_offsets_;  // [size + 1]
  Outstanding outstanding_;
};

class LocalExchange final : public PendingExchange {
 public:
  LocalExchange(LocalCommunicator& owner, uint64_t sequence, std::byte* recv,
                std::span<const size_t> recv_offsets)
      : owner_(owner), sequence_(sequence), recv_(recv), recv_offsets_(recv_offsets) {}
  ~LocalExchange() override {
    if (waited_) return;
    owner_.outstanding_.break_off();
    owner_.group_->fail_and_settle(fmt::format("rank {} dropped an exchange", owner_.rank_));
  }

  base::Status wait() override {
    owner_.outstanding_.end(sequence_);
    waited_ = true;
    return owner_.finish(sequence_, recv_, recv_offsets_);
  }

 private:
  LocalCommunicator& owner_;
  const uint64_t sequence_;
  std::byte* const recv_;
  const std::span<const size_t> recv_offsets_;
  bool waited_ = false;
};

base::Status LocalCommunicator::finish(uint64_t sequence, std::byte* recv,
                                       std::span<const size_t> recv_offsets) {
  base::Status status = group_->complete(rank_, sequence, recv, recv_offsets);
  if (!status) outstanding_.break_off();
  return status;
}

base::Expected<std::unique_ptr<PendingExchange>> LocalCommunicator::start_all_to_all_v(
    const ExchangeBuffers& buffers) {
  check_offsets(buffers, size());
  const uint64_t sequence = outstanding_.begin_exchange();
  base::Status status = group_->post(rank_, sequence, LocalGroup::Kind::kAllToAllV, buffers.send,
                                     buffers.send_offsets);
  if (!status) {
    outstanding_.break_off();
    return status.error();
  }
  return std::unique_ptr<PendingExchange>(
      std::make_unique<LocalExchange>(*this, sequence, buffers.recv, buffers.recv_offsets));
}

base::Status LocalCommunicator::all_gather(std::span<const std::byte> send,
                                           std::span<std::byte> recv) {
  BERYL_ASSERT(recv.size() == send.size() * static_cast<size_t>(size()), "{} != {} * {}",
               recv.size(), send.size(), size());
  const uint64_t sequence = outstanding_.only_one();
  for (size_t i = 0; i < gather_offsets_.size(); ++i) gather_offsets_[i] = i * send.size();
  base::Status status =
      group_->post(rank_, sequence, LocalGroup::Kind::kAllGather, send.data(), gather_offsets_);
  if (!status) return status;
  return finish(sequence, recv.data(), gather_offsets_);
}

base::Status LocalCommunicator::barrier() {
  const uint64_t sequence = outstanding_.only_one();
  base::Status status = group_->post(rank_, sequence, LocalGroup::Kind::kBarrier, nullptr, {});
  if (!status) return status;
  return finish(sequence, nullptr, {});
}

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_local_group(int size, LocalGroupOptions options) {
  BERYL_ASSERT(size >= 1, "size {}", size);
  auto group = std::make_shared<LocalGroup>(size, options.deadline);
  std::vector<std::unique_ptr<Communicator>> ranks;
  ranks.reserve(static_cast<size_t>(size));
  for (int rank = 0; rank < size; ++rank) {
    ranks.push_back(std::make_unique<LocalCommunicator>(group, rank));
  }
  return ranks;
}

}  // namespace beryl::comm
