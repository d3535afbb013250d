// Time of one all-to-all between ranks, by part size. Verifies the bytes first.
//   mpirun -n 2 --bind-to none bench_comm            ranks are processes
//   bench_comm --local 4                             ranks are threads
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#include "parallel/comm/local_communicator.h"
#include "parallel/comm/mpi/mpi_communicator.h"

namespace {

using beryl::comm::Communicator;
using Clock = std::chrono::steady_clock;

constexpr size_t kBytesPerSize = 256 << 20;  // moved for each part size, at most
constexpr int kMostRounds = 5'000;

// The buffers of equal parts for all peers.
struct Parts {
  Parts(const Communicator& communicator, size_t part_bytes) {
    const auto size = static_cast<size_t>(communicator.size());
    for (size_t i = 0; i <= size; ++i) offsets.push_back(i * part_bytes);
    send.resize(size * part_bytes, static_cast<std::byte>(communicator.rank() + 1));
    recv.resize(size * part_bytes);
  }
  bool is_right() const {
    for (size_t peer = 0; peer + 1 < offsets.size(); ++peer) {
      for (size_t i = offsets[peer]; i < offsets[peer + 1]; ++i) {
        if (recv[i] != static_cast<std::byte>(peer + 1)) return false;
      }
    }
    return true;
  }

  std::vector<size_t> offsets;
  std::vector<std::byte> send;
  std::vector<std::byte> recv;
};

bool exchange(Communicator& communicator, Parts& parts) {
  auto pending = communicator.start_all_to_all_v(
      {parts.send.data(), parts.offsets, parts.recv.data(), parts.offsets});
  return pending && pending.value()->wait().is_ok();
}

bool measure(Communicator& communicator, size_t part_bytes) {
  Parts parts(communicator, part_bytes);
  if (!exchange(communicator, parts) || !parts.is_right()) return false;
  const auto rounds = static_cast<int>(
      std::min<size_t>(kMostRounds, kBytesPerSize / (part_bytes * parts.offsets.size()) + 10));
  for (int i = 0; i < rounds / 10; ++i) {
    if (!exchange(communicator, parts)) return false;
  }
  if (!communicator.barrier()) return false;
  std::vector<double> microseconds;
  for (int i = 0; i < rounds; ++i) {
    const auto start = Clock::now();
    if (!exchange(communicator, parts)) return false;
    microseconds.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
  }
  if (communicator.rank() != 0) return true;
  std::sort(microseconds.begin(), microseconds.end());
  double sum = 0;
  for (const double value : microseconds) sum += value;
  const double mean = sum / rounds;
  const double sent = static_cast<double>(part_bytes) * (communicator.size() - 1);
  fmt::print("{:>9} {:>8.1f} {:>8.1f} {:>8.1f} {:>8.2f}\n", part_bytes, mean,
             microseconds[microseconds.size() / 2], microseconds[microseconds.size() * 99 / 100],
             sent / mean / 1000);
  return true;
}

bool run_rank(Communicator& communicator) {
  if (communicator.rank() == 0) {
    fmt::print("{} ranks, all-to-all\n{:>9} {:>8} {:>8} {:>8} {:>8}\n", communicator.size(),
               "part B", "mean us", "p50 us", "p99 us", "GB/s out");
  }
  for (const size_t part_bytes : {64, 1'024, 4'096, 11'264, 45'056, 360'448, 2'883'584}) {
    if (!measure(communicator, part_bytes)) return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Time of one all-to-all between ranks");
  int num_threads = 0;
  app.add_option("--local", num_threads, "threads of this process instead of MPI");
  CLI11_PARSE(app, argc, argv);
  if (num_threads > 0) {
    auto group = beryl::comm::make_local_group(num_threads);
    std::vector<std::thread> threads;
    for (auto& communicator : group) threads.emplace_back([&] { run_rank(*communicator); });
    for (auto& thread : threads) thread.join();
    return 0;
  }
  auto environment = beryl::comm::MpiEnvironment::create(&argc, &argv);
  if (!environment) return 1;
  auto communicator = beryl::comm::make_mpi_communicator(*environment.value());
  return communicator && run_rank(*communicator.value()) ? 0 : 1;
}
