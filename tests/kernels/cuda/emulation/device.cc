#include "tests/kernels/cuda/emulation/device.h"

#include <sys/mman.h>

#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "tests/kernels/cuda/emulation/fiber.h"

namespace beryl::emulation {

Index thread_index, block_index;
dim3 block_dimensions, grid_dimensions;

namespace {

constexpr int kMaxThreads = 1024;
constexpr int kNamedBarriers = 16;
constexpr int kMaxSharedBytes = 227 << 10;  // of a block of sm_90

// Those who arrive wait until all live ones have.
struct Meeting {
  int num_live = 0;
  int num_arrived = 0;
  uint64_t generation = 0;

  void complete_if_all() {
    if (num_arrived == 0 || num_arrived < num_live) return;
    num_arrived = 0;
    ++generation;
  }
};

struct Warp {
  Meeting meeting;
  const char* operation = nullptr;
  uint32_t live = 0;
  uint32_t arrived[2] = {};  // lanes at a collective, in two sets as `values`
  // Two sets: a lane may be one collective ahead of another that still reads.
  alignas(64) unsigned char values[2][kLanes][kMaxLaneBytes];
};

struct Thread {
  std::deque<std::vector<Copy>> groups;
  std::vector<Copy> open;
  bool is_done = false;
};

struct Device {
  std::vector<Fiber> fibers{kMaxThreads};
  std::vector<Thread> threads{kMaxThreads};
  std::vector<Warp> warps{kMaxThreads / kLanes};
  Meeting block;
  Meeting named[kNamedBarriers];  // __syncthreads() of some threads
  int num_threads = 0;
  int current = 0;
  uint64_t num_waits = 0;   // threads that have waited for earlier kernels
  uint64_t num_events = 0;  // arrivals and ends: a round without any is a deadlock
  std::vector<unsigned char> shared_storage = std::vector<unsigned char>(kMaxSharedBytes + 128);
  int shared_bytes = 0;
};

Device& device() {
  static Device instance;
  return instance;
}

void wait_for(Meeting& meeting) {
  Device& d = device();
  const uint64_t generation = meeting.generation;
  ++meeting.num_arrived;
  ++d.num_events;
  meeting.complete_if_all();
  while (meeting.generation == generation) Fiber::yield();
}

void run_thread(const std::function<void()>& body) {
  Device& d = device();
  body();
  const int self = d.current;
  Warp& warp = d.warps[static_cast<size_t>(self / kLanes)];
  if (!d.threads[static_cast<size_t>(self)].open.empty()) fail("copies were never committed");
  end_hopper_thread();
  d.threads[static_cast<size_t>(self)].is_done = true;
  ++d.num_events;
  warp.live &= ~(1u << (self % kLanes));
  --warp.meeting.num_live;
  warp.meeting.complete_if_all();
  --d.block.num_live;
  d.block.complete_if_all();
}

void run_block(const std::function<void()>& body) {
  Device& d = device();
  std::memset(shared_memory(), 0xff, static_cast<size_t>(d.shared_bytes));  // NaN
  begin_hopper_block(d.num_threads);
  d.block = {};
  for (Meeting& meeting : d.named) meeting = {};
  d.block.num_live = d.num_threads;
  for (int w = 0; w < (d.num_threads + kLanes - 1) / kLanes; ++w) {
    Warp& warp = d.warps[static_cast<size_t>(w)];
    warp.meeting = {};
    warp.meeting.num_live = std::min(kLanes, d.num_threads - w * kLanes);
    warp.live = warp.meeting.num_live == kLanes ? ~0u : (1u << warp.meeting.num_live) - 1;
  }
  for (int t = 0; t < d.num_threads; ++t) {
    d.threads[static_cast<size_t>(t)].groups.clear();
    d.threads[static_cast<size_t>(t)].open.clear();
    d.threads[static_cast<size_t>(t)].is_done = false;
    d.fibers[static_cast<size_t>(t)].start([&body] { run_thread(body); });
  }
  for (int num_done = 0; num_done < d.num_threads;) {
    const uint64_t events = d.num_events;
    num_done = 0;
    for (int t = 0; t < d.num_threads; ++t) {
      if (!d.threads[static_cast<size_t>(t)].is_done) {
        d.current = t;
        thread_index.x = static_cast<unsigned>(t);
        d.fibers[static_cast<size_t>(t)].resume();
      }
      num_done += d.threads[static_cast<size_t>(t)].is_done;
    }
    if (d.num_events == events) fail("deadlock: a barrier or collective that not all reach");
  }
  end_hopper_block();
}

}  // namespace

void fail(const char* what) {
  std::fprintf(stderr, "emulated device: block (%u, %u, %u), thread %u: %s\n", block_index.x,
               block_index.y, block_index.z, thread_index.x, what);
  std::abort();
}

int current_thread() {
  return device().current;
}

void pause() {
  Fiber::yield();
}

void note_progress() {
  ++device().num_events;
}

void run_grid(dim3 grid, int num_threads, int shared_bytes,
              const std::function<void()>& thread_body) {
  Device& d = device();
  if (num_threads < 1 || num_threads > kMaxThreads) fail("threads of a block");
  if (shared_bytes < 0 || shared_bytes > kMaxSharedBytes) fail("shared memory of a block");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535) {
    fail("grid dimensions");
  }
  d.num_threads = num_threads;
  d.shared_bytes = shared_bytes;
  grid_dimensions = grid;
  block_dimensions = dim3(static_cast<unsigned>(num_threads));
  with_device_memory([&] {
    for (unsigned z = 0; z < grid.z; ++z) {
      for (unsigned y = 0; y < grid.y; ++y) {
        for (unsigned x = 0; x < grid.x; ++x) {
          block_index = {x, y, z};
          run_block(thread_body);
        }
      }
    }
  });
}

void run_waiting_grid(dim3 grid, int num_threads, int shared_bytes,
                      const std::function<void()>& thread_body) {
  device().num_waits = 0;
  run_grid(grid, num_threads, shared_bytes, thread_body);
  const uint64_t num_blocks = uint64_t{grid.x} * grid.y * grid.z;
  if (device().num_waits != num_blocks * static_cast<uint64_t>(num_threads)) {
    fail("not every thread has waited for earlier kernels once");
  }
}

void count_wait() {
  ++device().num_waits;
}

void block_barrier() {
  wait_for(device().block);
}

void sync_some_threads(int id, int num_threads) {
  if (id < 1 || id >= kNamedBarriers || num_threads % kLanes != 0)
    fail("a barrier of some threads");
  Meeting& meeting = device().named[id];
  if (meeting.num_arrived > 0 && meeting.num_live != num_threads) fail("sizes of a barrier differ");
  meeting.num_live = num_threads;
  wait_for(meeting);
}

int lane() {
  return device().current % kLanes;
}

uint32_t lanes_of_collective() {
  const Warp& warp = device().warps[static_cast<size_t>(device().current / kLanes)];
  return warp.arrived[(warp.meeting.generation + 1) % 2];
}

const unsigned char* exchange(const char* operation, const void* mine, size_t num_bytes) {
  Device& d = device();
  Warp& warp = d.warps[static_cast<size_t>(d.current / kLanes)];
  uint32_t& arrived = warp.arrived[warp.meeting.generation % 2];
  if (warp.meeting.num_arrived == 0) {
    warp.operation = operation;
    arrived = 0;
  } else if (std::strcmp(warp.operation, operation) != 0) {
    fail("lanes of a warp are at different collectives");
  }
  arrived |= 1u << (d.current % kLanes);
  auto& values = warp.values[warp.meeting.generation % 2];
  std::memcpy(values[d.current % kLanes], mine, num_bytes);
  wait_for(warp.meeting);
  return values[0];
}

unsigned char* shared_memory() {
  auto address = reinterpret_cast<uintptr_t>(device().shared_storage.data());
  return reinterpret_cast<unsigned char*>((address + 127) / 128 * 128);
}

int shared_memory_bytes() {
  return device().shared_bytes;
}

unsigned char* shared_bytes_at(uint32_t address, size_t num_bytes) {
  if (address + num_bytes > static_cast<size_t>(device().shared_bytes))
    fail("beyond shared memory");
  return shared_memory() + address;
}

unsigned char* shared_at(uint32_t address) {
  if (address % 16 != 0) fail("16 bytes of shared memory at an odd address");
  return shared_bytes_at(address, 16);
}

void start_copy(uint32_t to, const void* from, bool valid) {
  Device& d = device();
  if (reinterpret_cast<uintptr_t>(from) % 16 != 0) fail("copy from an odd address");
  (void)shared_at(to);
  d.threads[static_cast<size_t>(d.current)].open.push_back({to, from, valid});
}

void land(const Copy& copy) {
  unsigned char* to = shared_at(copy.to);
  if (copy.valid) {
    std::memcpy(to, copy.from, 16);
  } else {
    std::memset(to, 0, 16);
  }
}

std::vector<Copy> take_copies() {
  Thread& thread = device().threads[static_cast<size_t>(device().current)];
  std::vector<Copy> copies = std::exchange(thread.open, {});
  for (const std::vector<Copy>& group : std::exchange(thread.groups, {})) {
    copies.insert(copies.end(), group.begin(), group.end());
  }
  return copies;
}

void commit_copies() {
  Thread& thread = device().threads[static_cast<size_t>(device().current)];
  thread.groups.push_back(std::exchange(thread.open, {}));
}

void wait_copies(int num_pending) {
  Thread& thread = device().threads[static_cast<size_t>(device().current)];
  while (static_cast<int>(thread.groups.size()) > num_pending) {
    for (const Copy& copy : thread.groups.front()) {
      land(copy);
    }
    thread.groups.pop_front();
    note_landed_copies();
  }
}

}  // namespace beryl::emulation
