#include <fmt/format.h>

#include <cmath>

#include "bench/kernels/device_tensors.h"
#include "bench/kernels/kernel_case.h"
#include "kernels/cpu/cpu_ops.h"

namespace beryl::bench {
namespace {

using kernels::DType;
using kernels::PatchBatch;
using kernels::PatchGrid;
using kernels::TensorView;

// The published tower.
constexpr int kNumHeads = 16;
constexpr int kHeadDim = 72;
constexpr int64_t kWidth = int64_t{kNumHeads} * kHeadDim;
constexpr int kPatchSize = 16;
constexpr int64_t kPatchDim = int64_t{3} * kPatchSize * kPatchSize;
constexpr int64_t kTableLength = 10240;
constexpr int kPoolingSide = 3;
// A picture of 280 soft tokens: 672 x 960 pixels.
constexpr PatchGrid kGrid = {42, 60};

// Pictures of one call, and what all cases of them share.
class PictureCases {
 public:
  PictureCases(const KernelOps& device, int num_images, const CaseVisitor& visit)
      : device_(device),
        visit_(visit),
        tensors_(device.ops),
        grids_(static_cast<size_t>(num_images), kGrid),
        batch_{num_images, grids_.data()},
        patches_(batch_.num_patches()) {
    for (int i = 0; i < kHeadDim / 4; ++i) {
      inv_freq_.push_back(std::pow(100.0f, -4.0f * static_cast<float>(i) / kHeadDim));
    }
    shape_ = {kNumHeads, kHeadDim, 1e-6f, inv_freq_.data()};
  }

  void visit_attention();
  void visit_inputs();
  void visit_cutting();
  void visit_positions();
  void visit_pooling();

 private:
  KernelCase make(const char* operation, double bytes, double flops) const {
    KernelCase one;
    one.name = fmt::format("{}/pictures:{}/patches:{}", operation, batch_.num_images, patches_);
    one.bytes = bytes;
    one.flops = flops;
    return one;
  }
  // Largest difference of `out` from what `run` makes on other operations with the same inputs.
  template <typename Run>
  double difference_from_plain(const TensorView& out, const Run& run) {
    const TensorView other = tensors_.zeros(out.dtype, {out.shape[0], out.shape[1]});
    device_.ops.download(nullptr, nullptr, 0);
    run(device_.plain, other);
    device_.plain.download(nullptr, nullptr, 0);
    return relative_difference(tensors_.floats(out), tensors_.floats(other));
  }

  const KernelOps& device_;
  const CaseVisitor& visit_;
  DeviceTensors tensors_;
  std::vector<PatchGrid> grids_;
  PatchBatch batch_;
  int64_t patches_;
  std::vector<float> inv_freq_;
  kernels::PatchAttentionShape shape_;
};

void PictureCases::visit_attention() {
  const kernels::PatchQkv qkv = {tensors_.random({patches_, kWidth}, 0.4f),
                                 tensors_.random({patches_, kWidth}, 1),
                                 tensors_.random({patches_, kWidth}, 1)};
  const TensorView out = tensors_.zeros(DType::kBFloat16, {patches_, kWidth});
  const auto rows = static_cast<double>(patches_);
  const auto keys = static_cast<double>(kGrid.num_patches());
  KernelCase one = make("patch_attention", 8 * rows * kWidth, 4 * rows * keys * kWidth);
  one.run = [&](int) { device_.ops.patch_attention(shape_, qkv, batch_, out); };
  one.error = [&] {
    return difference_from_plain(out, [&](kernels::Ops& ops, const TensorView& other) {
      ops.patch_attention(shape_, qkv, batch_, other);
    });
  };
  visit_(one);
}

void PictureCases::visit_inputs() {
  const kernels::AttentionWeights weights = {
      tensors_.random({kWidth, kWidth}, 0.03f), tensors_.random({kWidth, kWidth}, 0.03f),
      tensors_.random({kWidth, kWidth}, 0.03f), tensors_.random({kHeadDim}, 0.3f, 1),
      tensors_.random({kHeadDim}, 0.3f, 1)};
  const TensorView x = tensors_.random({patches_, kWidth}, 1);
  const auto activation = [&] { return tensors_.zeros(DType::kBFloat16, {patches_, kWidth}); };
  const kernels::PatchQkv out = {activation(), activation(), activation()};
  const auto rows = static_cast<double>(patches_);
  KernelCase one = make("patch_attention_inputs", 8 * rows * kWidth + 6.0 * kWidth * kWidth,
                        6 * rows * kWidth * kWidth);
  one.run = [&](int) { device_.ops.patch_attention_inputs(shape_, weights, x, batch_, out); };
  one.error = [&] {
    const TensorView k = activation();
    const TensorView v = activation();
    return difference_from_plain(out.q, [&](kernels::Ops& ops, const TensorView& other) {
      ops.patch_attention_inputs(shape_, weights, x, batch_, {other, k, v});
    });
  };
  visit_(one);
}

// The other way is the CPU's.
void PictureCases::visit_cutting() {
  std::vector<uint8_t> pixels(static_cast<size_t>(kGrid.num_patches() * kPatchDim));
  for (size_t i = 0; i < pixels.size(); ++i) {
    pixels[i] = static_cast<uint8_t>(kernels::hash_mix(i) & 0xff);
  }
  const std::vector<kernels::ImageView> images(
      grids_.size(), {pixels.data(), kGrid.height * kPatchSize, kGrid.width * kPatchSize});
  const TensorView out = tensors_.zeros(DType::kBFloat16, {patches_, kPatchDim});
  KernelCase one = make("cut_patches", 3.0 * static_cast<double>(patches_ * kPatchDim), 0);
  one.run = [&](int) {
    device_.ops.cut_patches(images.data(), batch_.num_images, kPatchSize, out);
  };
  one.error = [&] {
    std::vector<float> expected(static_cast<size_t>(patches_ * kPatchDim));
    kernels::cpu::make_cpu_ops({})->cut_patches(
        images.data(), batch_.num_images, kPatchSize,
        {expected.data(), DType::kFloat32, {patches_, kPatchDim}});
    return relative_difference(tensors_.floats(out), expected);
  };
  visit_(one);
}

void PictureCases::visit_positions() {
  const TensorView table = tensors_.random({2, kTableLength, kWidth}, 1);
  const TensorView x = tensors_.random_rows(patches_, kWidth);
  std::vector<float> expected = tensors_.floats(x);
  KernelCase one = make("add_patch_positions", 8.0 * static_cast<double>(patches_ * kWidth), 0);
  one.run = [&](int) { device_.ops.add_patch_positions(table, batch_, x); };
  one.error = [&] {
    std::vector<uint16_t> host(static_cast<size_t>(table.num_elements()));
    device_.ops.download(host.data(), table.data, table.num_bytes());
    kernels::cpu::make_cpu_ops({})->add_patch_positions(
        {host.data(), DType::kBFloat16, {2, kTableLength, kWidth}}, batch_,
        {expected.data(), DType::kFloat32, {patches_, kWidth}});
    return relative_difference(tensors_.floats(x), expected);
  };
  visit_(one);
}

void PictureCases::visit_pooling() {
  const int64_t tokens = patches_ / (kPoolingSide * kPoolingSide);
  const TensorView x = tensors_.random_rows(patches_, kWidth);
  const TensorView out = tensors_.zeros(DType::kFloat32, {tokens, kWidth});
  const kernels::PatchPooling pooling = {kPoolingSide, 33.94f, {}, {}};
  KernelCase one = make("pool_patches", 4.0 * static_cast<double>((patches_ + tokens) * kWidth), 0);
  one.run = [&](int) { device_.ops.pool_patches(pooling, x, batch_, out); };
  one.error = [&] {
    std::vector<float> rows = tensors_.floats(x);
    std::vector<float> expected(static_cast<size_t>(tokens * kWidth));
    kernels::cpu::make_cpu_ops({})->pool_patches(
        pooling, {rows.data(), DType::kFloat32, {patches_, kWidth}}, batch_,
        {expected.data(), DType::kFloat32, {tokens, kWidth}});
    return relative_difference(tensors_.floats(out), expected);
  };
  visit_(one);
}

}  // namespace

void visit_vision_cases(const KernelOps& device, const CaseVisitor& visit) {
  for (const int num_images : {1, 4}) {
    PictureCases(device, num_images, visit).visit_attention();
    PictureCases(device, num_images, visit).visit_inputs();
    PictureCases(device, num_images, visit).visit_cutting();
    PictureCases(device, num_images, visit).visit_positions();
    PictureCases(device, num_images, visit).visit_pooling();
  }
}

}  // namespace beryl::bench
