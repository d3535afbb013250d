// StepGraphs: launches of steps kept as CUDA graphs, so that a step that comes back costs one
// launch. A step runs as it is the first time (buffers grow, libraries choose algorithms), is
// captured the second time and replayed from then on. The least recently used graphs are dropped.
//
// Launches are captured on a stream of its own, so other threads may go on using the main one.
// When capturing fails the step still runs, one warning says why, and nothing is captured again.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <functional>
#include <list>
#include <string>
#include <thread>
#include <utility>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/stream.h"
#include "kernels/step_key.h"

namespace beryl::kernels::cuda {

class StepGraphs {
 public:
  using Warn = std::function<void(const std::string&)>;
  // Launches the step into a stream.
  using Launch = std::function<void(cudaStream_t stream)>;
  // Addresses that launches hold besides those that the key stands for. When one changes, no graph
  // is valid any more.
  using WorkSpace = std::array<const void*, 6>;

  explicit StepGraphs(Warn warn, size_t capacity = kMaxStepGraphs)
      : warn_(std::move(warn)), capacity_(capacity) {}
  ~StepGraphs();
  StepGraphs(const StepGraphs&) = delete;
  StepGraphs& operator=(const StepGraphs&) = delete;

  // The device is current. `work_space` may change whenever `launch` runs or others use it.
  void run(const StepKey& key, const WorkSpace& work_space, cudaStream_t stream,
           const Launch& launch);

  // True on the thread that is capturing: copies would not become part of the graph.
  bool is_capturing_here() const { return capturing_.load() == std::this_thread::get_id(); }

 private:
  struct Step {
    StepKey key;
    cudaGraphExec_t graph = nullptr;
  };

  // The step's entry, now the first one; `is_new` says that it had none.
  Step& find(const StepKey& key, cudaStream_t stream, bool* is_new);
  std::string try_capture(Step& step, const Launch& launch);  // why it failed; empty: it did not
  void give_up(const std::string& reason, cudaStream_t stream);
  void drop_graphs(cudaStream_t stream);

  const Warn warn_;
  const size_t capacity_;
  Stream capture_stream_;
  std::list<Step> steps_;  // the most recently used first
  WorkSpace work_space_{};
  bool gave_up_ = false;
  std::atomic<std::thread::id> capturing_{};
};

}  // namespace beryl::kernels::cuda
