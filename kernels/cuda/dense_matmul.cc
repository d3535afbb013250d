#include "kernels/cuda/dense_matmul.h"

#include <cublasLt.h>
#include <cublas_api.h>
#include <dlfcn.h>

#include <array>
#include <initializer_list>
#include <map>
#include <string>
#include <utility>

#include "kernels/cuda/device_buffer.h"

namespace beryl::kernels::cuda {
namespace {

constexpr size_t kWorkspaceBytes = 32 << 20;  // what cuBLASLt recommends for sm_90
constexpr uint32_t kAlignment = 16;           // of every operand; cuBLASLt would assume 256
constexpr size_t kMaxAlgorithms = 4096;       // remembered shapes; row counts vary with every step

#define BERYL_TEXT(name) #name
#define BERYL_TEXT_OF(name) BERYL_TEXT(name)
constexpr const char* kLibrary = "libcublasLt.so." BERYL_TEXT_OF(CUBLAS_VER_MAJOR);

void check_lt(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw DeviceError(std::string("cuBLASLt: ") + call + " failed with status " +
                    std::to_string(static_cast<int>(status)));
}

// The functions used, found at run time.
class Library {
 public:
  Library() {
    handle_ = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
    const std::string reason = handle_ == nullptr ? ::dlerror() : "";
    // Where the toolkit was at build time; the loader's own paths come first.
    if (handle_ == nullptr) {
      handle_ = ::dlopen((std::string(BERYL_CUDA_LIBRARY_DIR) + "/" + kLibrary).c_str(),
                         RTLD_NOW | RTLD_LOCAL);
    }
    if (handle_ == nullptr) {
      throw DeviceError(std::string("CUDA: cannot load ") + kLibrary +
                        ": install cuBLAS of the CUDA toolkit or add its folder to "
                        "LD_LIBRARY_PATH (" +
                        reason + ")");
    }
    find("cublasLtCreate", create);
    find("cublasLtDestroy", destroy);
    find("cublasLtMatmul", matmul);
    find("cublasLtMatmulDescInit_internal", desc_init);
    find("cublasLtMatmulDescSetAttribute", desc_set);
    find("cublasLtMatrixLayoutInit_internal", layout_init);
    find("cublasLtMatmulPreferenceInit_internal", preference_init);
    find("cublasLtMatmulPreferenceSetAttribute", preference_set);
    find("cublasLtMatmulAlgoGetHeuristic", heuristic);
  }
  ~Library() {
    if (handle_ != nullptr) ::dlclose(handle_);
  }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  decltype(&cublasLtCreate) create;
  decltype(&cublasLtDestroy) destroy;
  decltype(&cublasLtMatmul) matmul;
  decltype(&cublasLtMatmulDescInit_internal) desc_init;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set;
  decltype(&cublasLtMatrixLayoutInit_internal) layout_init;
  decltype(&cublasLtMatmulPreferenceInit_internal) preference_init;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;

 private:
  template <typename Function>
  void find(const char* name, Function& function) {
    function = reinterpret_cast<Function>(::dlsym(handle_, name));
    if (function != nullptr) return;
    ::dlclose(std::exchange(handle_, nullptr));
    throw DeviceError(std::string("CUDA: ") + kLibrary + " has no " + name);
  }

  void* handle_ = nullptr;
};

}  // namespace

struct DenseMatmul::Impl {
  Impl() { check_lt(library.create(&handle), "cublasLtCreate"); }
  ~Impl() { (void)library.destroy(handle); }

  // cuBLASLt is column-major: out^T [num_cols, num_rows] = weight^T' * x^T.
  struct Problem {
    cublasLtMatmulDescOpaque_t desc;
    cublasLtMatrixLayoutOpaque_t weight;
    cublasLtMatrixLayoutOpaque_t x;
    cublasLtMatrixLayoutOpaque_t out;
  };
  Problem problem(const DenseArgs& args) const;
  cublasLtMatmulAlgo_t choose(Problem& problem) const;

  using Key = std::array<int, 4>;  // rows, columns, k, out is bf16
  Library library;
  cublasLtHandle_t handle = nullptr;
  DeviceBuffer workspace;
  std::map<Key, cublasLtMatmulAlgo_t> algorithms;
};

DenseMatmul::Impl::Problem DenseMatmul::Impl::problem(const DenseArgs& args) const {
  Problem p;
  check_lt(library.desc_init(&p.desc, sizeof(p.desc), CUBLAS_COMPUTE_32F, CUDA_R_32F),
           "cublasLtMatmulDescInit");
  const cublasOperation_t transpose = CUBLAS_OP_T;
  check_lt(library.desc_set(&p.desc, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof(transpose)),
           "cublasLtMatmulDescSetAttribute");
  const auto cols = static_cast<uint64_t>(args.num_cols);
  const auto rows = static_cast<uint64_t>(args.num_rows);
  const auto k = static_cast<uint64_t>(args.k);
  const auto layout = [&](cublasLtMatrixLayoutOpaque_t& to, cudaDataType_t type, uint64_t height,
                          uint64_t width) {
    check_lt(
        library.layout_init(&to, sizeof(to), type, height, width, static_cast<int64_t>(height)),
        "cublasLtMatrixLayoutInit");
  };
  layout(p.weight, CUDA_R_16BF, k, cols);
  layout(p.x, CUDA_R_16BF, k, rows);
  layout(p.out, args.out_is_bf16 ? CUDA_R_16BF : CUDA_R_32F, cols, rows);
  return p;
}

cublasLtMatmulAlgo_t DenseMatmul::Impl::choose(Problem& problem) const {
  cublasLtMatmulPreferenceOpaque_t preference;
  check_lt(library.preference_init(&preference, sizeof(preference)),
           "cublasLtMatmulPreferenceInit");
  const size_t workspace_bytes = kWorkspaceBytes;
  check_lt(library.preference_set(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                  &workspace_bytes, sizeof(workspace_bytes)),
           "cublasLtMatmulPreferenceSetAttribute");
  for (const cublasLtMatmulPreferenceAttributes_t operand :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    check_lt(library.preference_set(&preference, operand, &kAlignment, sizeof(kAlignment)),
             "cublasLtMatmulPreferenceSetAttribute");
  }
  cublasLtMatmulHeuristicResult_t result = {};
  int num_results = 0;
  check_lt(library.heuristic(handle, &problem.desc, &problem.weight, &problem.x, &problem.out,
                             &problem.out, &preference, 1, &result, &num_results),
           "cublasLtMatmulAlgoGetHeuristic");
  if (num_results == 0) throw DeviceError("cuBLASLt has no algorithm for a product of ours");
  return result.algo;
}

DenseMatmul::DenseMatmul() : impl_(std::make_unique<Impl>()) {}
DenseMatmul::~DenseMatmul() = default;

void DenseMatmul::run(const DenseArgs& args, cudaStream_t stream) {
  if (args.num_rows == 0) return;
  Impl& impl = *impl_;
  Impl::Problem problem = impl.problem(args);
  const Impl::Key key = {args.num_rows, args.num_cols, args.k, args.out_is_bf16 ? 1 : 0};
  auto found = impl.algorithms.find(key);
  if (found == impl.algorithms.end()) {
    if (impl.algorithms.size() >= kMaxAlgorithms) impl.algorithms.clear();
    found = impl.algorithms.emplace(key, impl.choose(problem)).first;
  }
  const float one = 1;
  const float zero = 0;
  check_lt(impl.library.matmul(impl.handle, &problem.desc, &one, args.weight, &problem.weight,
                               args.x, &problem.x, &zero, args.out, &problem.out, args.out,
                               &problem.out, &found->second,
                               impl.workspace.reserve(kWorkspaceBytes), kWorkspaceBytes, stream),
           "cublasLtMatmul");
}

}  // namespace beryl::kernels::cuda
