#include "kernels/cuda/step_graphs.h"

#include <algorithm>
#include <utility>

#include "kernels/cuda/error.h"

namespace beryl::kernels::cuda {
namespace {

std::string text_of(const char* call, cudaError_t error) {
  (void)cudaGetLastError();  // told here, not by the next launch
  return std::string(call) + ": " + cudaGetErrorString(error);
}

void destroy(cudaGraphExec_t& graph) {
  if (graph != nullptr) (void)cudaGraphExecDestroy(std::exchange(graph, nullptr));
}

// A graph under construction; whatever happens, the stream ends up out of capture mode.
class Capture {
 public:
  explicit Capture(cudaStream_t stream) : stream_(stream) {}
  ~Capture() {
    if (has_begun_) (void)end();
    if (graph_ != nullptr) (void)cudaGraphDestroy(graph_);
    (void)cudaGetLastError();
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  // Only this thread is kept from calls that a capture cannot hold: others load or fill.
  cudaError_t begin() {
    const cudaError_t error = cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal);
    has_begun_ = error == cudaSuccess;
    return error;
  }
  cudaError_t end() {
    has_begun_ = false;
    return cudaStreamEndCapture(stream_, &graph_);
  }
  cudaGraph_t graph() const { return graph_; }

 private:
  cudaStream_t stream_;
  bool has_begun_ = false;
  cudaGraph_t graph_ = nullptr;
};

}  // namespace

StepGraphs::~StepGraphs() {
  for (Step& step : steps_) destroy(step.graph);
}

void StepGraphs::run(const StepKey& key, const WorkSpace& work_space, cudaStream_t stream,
                     const Launch& launch) {
  if (gave_up_) {
    launch(stream);
    return;
  }
  if (work_space != work_space_) drop_graphs(stream);
  work_space_ = work_space;
  bool is_new = false;
  Step& step = find(key, stream, &is_new);
  if (step.graph == nullptr && !is_new) {
    const std::string problem = try_capture(step, launch);
    if (!problem.empty()) give_up(problem, stream);
  }
  if (step.graph != nullptr) {
    const cudaError_t error = cudaGraphLaunch(step.graph, stream);
    if (error == cudaSuccess) return;
    give_up(text_of("cudaGraphLaunch", error), stream);
  }
  launch(stream);
}

StepGraphs::Step& StepGraphs::find(const StepKey& key, cudaStream_t stream, bool* is_new) {
  const auto found =
      std::find_if(steps_.begin(), steps_.end(), [&](const Step& step) { return step.key == key; });
  *is_new = found == steps_.end();
  if (!*is_new) {
    steps_.splice(steps_.begin(), steps_, found);
    return steps_.front();
  }
  if (steps_.size() >= capacity_) {
    // The graph may be running.
    if (steps_.back().graph != nullptr) BERYL_CUDA(cudaStreamSynchronize(stream));
    destroy(steps_.back().graph);
    steps_.pop_back();
  }
  return steps_.emplace_front(Step{.key = key, .graph = nullptr});
}

std::string StepGraphs::try_capture(Step& step, const Launch& launch) {
  struct Flag {
    std::atomic<std::thread::id>& capturing;
    ~Flag() { capturing = std::thread::id(); }
  };
  Capture capture(capture_stream_.get());
  cudaError_t error = capture.begin();
  if (error != cudaSuccess) return text_of("cudaStreamBeginCapture", error);
  try {
    const Flag flag{capturing_};
    capturing_ = std::this_thread::get_id();
    launch(capture_stream_.get());
  } catch (const DeviceError& problem) {
    return problem.what();
  }
  error = capture.end();
  if (error != cudaSuccess) return text_of("cudaStreamEndCapture", error);
  error = cudaGraphInstantiate(&step.graph, capture.graph(), 0);
  if (error == cudaSuccess) return {};
  step.graph = nullptr;
  return text_of("cudaGraphInstantiate", error);
}

void StepGraphs::give_up(const std::string& reason, cudaStream_t stream) {
  gave_up_ = true;
  drop_graphs(stream);
  warn_(
      "steps are launched kernel by kernel from now on, decoding is slower: a step could not be "
      "captured (" +
      reason + ")");
}

void StepGraphs::drop_graphs(cudaStream_t stream) {
  const bool has_graphs =
      std::any_of(steps_.begin(), steps_.end(), [](const Step& s) { return s.graph != nullptr; });
  if (!has_graphs) return;
  BERYL_CUDA(cudaStreamSynchronize(stream));  // one may be running
  for (Step& step : steps_) destroy(step.graph);
}

}  // namespace beryl::kernels::cuda
