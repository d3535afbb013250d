// The kernel for few rows at every shape of its stages, whatever the plan would choose.
#include <algorithm>
#include <cmath>
#include <functional>

#include "kernels/cuda/matmul.h"
#include "tests/kernels/cuda/device_test.h"

namespace beryl::kernels {
namespace {

using cuda::Epilogue;
using cuda::MatmulArgs;
using cuda::MatmulPlan;

class CudaSkinnyTest : public CudaTest {
 protected:
  static constexpr int64_t kDepth = 200;  // no multiple of any stage's

  // Runs `check` with every shape of a stage, rings and grids of several sizes.
  static void for_each_plan(const std::function<void(MatmulPlan)>& check) {
    for (const cuda::SkinnyShape shape : cuda::kSkinnyShapes) {
      for (const int blocks : {1, 7, 132}) {
        MatmulPlan plan;
        plan.weight_rows = shape.weight_rows;
        plan.tile_rows = shape.tile_rows;
        plan.num_blocks = blocks;
        SCOPED_TRACE(testing::Message() << plan.weight_rows << " weight rows, " << plan.tile_rows
                                        << " rows, " << blocks << " blocks");
        check(plan);
      }
    }
  }

  void launch(const MatmulArgs& args, const MatmulPlan& plan) {
    ops().download(nullptr, nullptr, 0);  // the other stream must see what was uploaded
    ASSERT_EQ(cuda::launch_skinny(args, plan, cudaStream_t{nullptr}), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(nullptr), cudaSuccess);
  }

  // x [rows, k] times weight [cols, k], as float32.
  FloatMatrix product(FloatMatrix x, WeightMatrix& weight) {
    FloatMatrix out(x.num_rows, weight.num_rows);
    cpu().linear(x.view(), weight.view(), out.view());
    return out;
  }
};

TEST_F(CudaSkinnyTest, SeveralProductsAgree) {
  Random random(1);
  const std::vector<int64_t> cols = {37, 150, 8};
  std::vector<WeightMatrix> weights;
  std::vector<DeviceTensor> on_gpu;
  for (const int64_t n : cols) weights.push_back(random.weights(n, kDepth, 0.05f));
  for (const WeightMatrix& weight : weights) on_gpu.push_back(on_device(weight));
  for (const int64_t rows : {1, 65}) {
    const FloatMatrix x = rounded_to_bf16(random.floats(rows, kDepth));
    const DeviceTensor device_x = on_device(x, DType::kBFloat16);
    MatmulArgs args;
    args.x = device_x.view().bf16();
    args.k = kDepth;
    args.num_rows = static_cast<int>(rows);
    args.num_jobs = 3;
    std::vector<FloatMatrix> expected;
    for (WeightMatrix& weight : weights) expected.push_back(product(x, weight));
    for_each_plan([&](const MatmulPlan& plan) {
      std::vector<DeviceTensor> out;
      for (size_t j = 0; j < cols.size(); ++j) {
        out.push_back(empty(DType::kFloat32, rows, cols[j]));
        args.jobs[j] = {on_gpu[j].view().bf16(), nullptr, out[j].view().data,
                        static_cast<int>(cols[j])};
      }
      launch(args, plan);
      for (size_t j = 0; j < cols.size(); ++j) {
        EXPECT_LT(relative_error(out[j].floats(), expected[j]), kFloatTolerance) << rows << j;
      }
    });
  }
}

// Experts without rows, with one, with more than a tile, and rows that lie elsewhere.
TEST_F(CudaSkinnyTest, GroupsAgree) {
  Random random(2);
  const int64_t width = 40;
  const std::vector<int32_t> offsets = {0, 0, 1, 71, 71, 78, 78};
  const int num_groups = static_cast<int>(offsets.size()) - 1;
  const int num_rows = offsets.back();
  WeightMatrix gate_up = random.weights(num_groups * 2 * width, kDepth, 0.05f);
  const DeviceTensor device_gate_up = on_device(gate_up);
  const FloatMatrix x = rounded_to_bf16(random.floats(20, kDepth));
  const DeviceTensor device_x = on_device(x, DType::kBFloat16);
  std::vector<int32_t> row_idx;
  std::vector<float> scale;
  for (int i = 0; i < num_rows; ++i) {
    row_idx.push_back(random.below(20));
    scale.push_back(0.5f + static_cast<float>(random.below(100)) / 100);
  }
  const DeviceArray<int32_t> device_offsets(ops(), offsets);
  const DeviceArray<int32_t> device_row_idx(ops(), row_idx);
  const DeviceArray<float> device_scale(ops(), scale);
  // Every number of every expert, of gate and of up.
  const FloatMatrix all = product(x, gate_up);
  FloatMatrix gated(num_rows, width);
  FloatMatrix scaled(num_rows, width);
  for (int e = 0; e < num_groups; ++e) {
    for (int i = offsets[static_cast<size_t>(e)]; i < offsets[static_cast<size_t>(e) + 1]; ++i) {
      const float* from = all.row(row_idx[static_cast<size_t>(i)]) + e * 2 * width;
      for (int64_t c = 0; c < width; ++c) {
        const float z = from[c];
        const float gelu =
            0.5f * z * (1 + std::tanh(0.7978845608028654f * (z + 0.044715f * z * z * z)));
        gated.row(i)[c] = gelu * from[width + c];
        scaled.row(i)[c] = z * scale[static_cast<size_t>(i)];
      }
    }
  }
  MatmulArgs args;
  args.x = device_x.view().bf16();
  args.k = kDepth;
  args.num_rows = num_rows + 5;  // room beyond what is used
  args.num_groups = num_groups;
  args.offsets = device_offsets.data();
  args.weight_stride = 2 * width * kDepth;
  args.row_idx = device_row_idx.data();
  const uint16_t* weight = device_gate_up.view().bf16();
  for_each_plan([&](const MatmulPlan& plan) {
    const DeviceTensor inner = empty(DType::kBFloat16, num_rows, width);
    args.epilogue = Epilogue::kGelu;
    args.jobs[0] = {weight, weight + width * kDepth, inner.view().data, width};
    args.row_scale = nullptr;
    launch(args, plan);
    EXPECT_LT(relative_error(inner.floats(), gated), kBf16Tolerance);
    const DeviceTensor out = empty(DType::kFloat32, num_rows, width);
    args.epilogue = Epilogue::kStore;
    args.jobs[0] = {weight, nullptr, out.view().data, width};
    args.row_scale = device_scale.data();
    launch(args, plan);
    EXPECT_LT(relative_error(out.floats(), scaled), kFloatTolerance);
    args.offsets_are_settled = !args.offsets_are_settled;
  });
}

}  // namespace
}  // namespace beryl::kernels
