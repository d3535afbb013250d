// Router, sorting by expert and the grouped FFN against the CPU back end.
#include <algorithm>
#include <functional>

#include "tests/kernels/cuda/device_test.h"

namespace beryl::kernels {
namespace {

constexpr float kEps = 1e-6f;

struct Routing {
  std::vector<int32_t> idx;  // [rows, top_k]
  FloatMatrix weights;       // [rows, top_k]

  TensorView idx_view() {
    return {idx.data(), DType::kInt32, {weights.num_rows, weights.num_cols}};
  }
};

// Arrays of an ExpertGroups.
template <typename Array32, typename ArrayFloat, typename Array64>
struct GroupArrays {
  Array32 offsets, row_idx, leaf_offsets, leaf_rows, leaf_keys;
  ArrayFloat weight;
  Array64 load;

  ExpertGroups view(int num_experts) {
    return {num_experts,         offsets.data(),   row_idx.data(),   weight.data(),
            leaf_offsets.data(), leaf_rows.data(), leaf_keys.data(), load.data()};
  }
};
using HostGroups = GroupArrays<std::vector<int32_t>, std::vector<float>, std::vector<int64_t>>;
using DeviceGroups = GroupArrays<DeviceArray<int32_t>, DeviceArray<float>, DeviceArray<int64_t>>;

HostGroups host_groups(const Routing& routing, int num_experts) {
  const auto entries = routing.idx.size();
  const auto rows = static_cast<size_t>(routing.weights.num_rows);
  HostGroups groups;
  groups.offsets.resize(static_cast<size_t>(num_experts) + 1);
  groups.row_idx.resize(entries, -7);
  groups.leaf_offsets.resize(rows + 1);
  groups.leaf_rows.resize(entries);
  groups.leaf_keys.resize(entries);
  groups.weight.resize(entries, -7);
  groups.load.resize(static_cast<size_t>(num_experts), 3);
  return groups;
}

class CudaExpertsTest : public CudaTest {
 protected:
  // `choose(row, k)` gives the experts of a row.
  static Routing make_routing(Random& random, int64_t rows, int64_t top_k,
                              const std::function<int32_t(int64_t, int64_t)>& choose) {
    Routing routing;
    routing.weights = FloatMatrix(rows, top_k);
    for (float& weight : routing.weights.data) weight = 0.1f + std::abs(random.normal());
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t k = 0; k < top_k; ++k) routing.idx.push_back(choose(row, k));
    }
    return routing;
  }
  static Routing random_routing(Random& random, int64_t rows, int64_t top_k, int num_experts) {
    std::vector<int32_t> order(static_cast<size_t>(num_experts));
    for (size_t e = 0; e < order.size(); ++e) order[e] = static_cast<int32_t>(e);
    return make_routing(random, rows, top_k, [&](int64_t, int64_t k) {
      const auto i = static_cast<size_t>(k);
      std::swap(order[i],
                order[i + static_cast<size_t>(random.below(num_experts - static_cast<int>(k)))]);
      return order[i];
    });
  }

  // Groups on both back ends must be the same; returns those of the CPU.
  HostGroups expect_same_groups(Routing& routing, const std::vector<int32_t>& slots,
                                int num_slots) {
    HostGroups expected = host_groups(routing, num_slots);
    const HostGroups untouched = expected;
    cpu().group_by_expert(routing.idx_view(), routing.weights.view(), slots.data(),
                          expected.view(num_slots));
    const auto array = [this](const auto& v) { return DeviceArray(ops(), v); };
    const DeviceArray<int32_t> idx(ops(), routing.idx);
    const DeviceArray<int32_t> device_slots(ops(), slots);
    const DeviceTensor weights = on_device(routing.weights);
    DeviceGroups groups = {array(untouched.offsets),      array(untouched.row_idx),
                           array(untouched.leaf_offsets), array(untouched.leaf_rows),
                           array(untouched.leaf_keys),    array(untouched.weight),
                           array(untouched.load)};
    ops().group_by_expert(
        {idx.data(), DType::kInt32, {weights.view().shape[0], weights.view().shape[1]}},
        weights.view(), device_slots.data(), groups.view(num_slots));
    EXPECT_EQ(groups.offsets.values(), expected.offsets);
    EXPECT_EQ(groups.row_idx.values(), expected.row_idx);
    EXPECT_EQ(groups.weight.values(), expected.weight);
    EXPECT_EQ(groups.leaf_offsets.values(), expected.leaf_offsets);
    EXPECT_EQ(groups.leaf_rows.values(), expected.leaf_rows);
    EXPECT_EQ(groups.leaf_keys.values(), expected.leaf_keys);
    EXPECT_EQ(groups.load.values(), expected.load);
    return expected;
  }

  static std::vector<int32_t> identity(int num_experts) {
    std::vector<int32_t> slots(static_cast<size_t>(num_experts));
    for (size_t e = 0; e < slots.size(); ++e) slots[e] = static_cast<int32_t>(e);
    return slots;
  }
};

TEST_F(CudaExpertsTest, RouterChoosesAsTheCpuDoes) {
  Random random(1);
  for (const int64_t hidden : {int64_t{72}, int64_t{kIsEmulated ? 264 : 2816}}) {
    for (const int num_experts : {16, 128, 136}) {
      const int64_t top_k = num_experts == 16 ? 4 : 8;
      WeightMatrix proj = random.weights(num_experts, hidden, 1);
      WeightMatrix scale = random.gains(hidden);
      WeightMatrix per_expert = random.gains(num_experts);
      const DeviceTensor device_proj = on_device(proj);
      const DeviceTensor device_scale = on_device(scale);
      const DeviceTensor device_per_expert = on_device(per_expert);
      for (const int64_t rows : {0, 1, 3, 17, 65, 130, 300, kIsEmulated ? 301 : 4096}) {
        FloatMatrix x = random.floats(rows, hidden);
        std::vector<int32_t> expected_idx(static_cast<size_t>(rows * top_k));
        FloatMatrix expected(rows, top_k);
        cpu().route({proj.view(), scale.vector_view(), per_expert.vector_view()}, x.view(), kEps,
                    {expected_idx.data(), DType::kInt32, {rows, top_k}}, expected.view());
        const DeviceArray<int32_t> idx(ops(), std::vector<int32_t>(expected_idx.size()));
        const DeviceTensor weights = empty(DType::kFloat32, rows, top_k);
        ops().route(
            {device_proj.view(), device_scale.vector_view(), device_per_expert.vector_view()},
            on_device(x).view(), kEps, {idx.data(), DType::kInt32, {rows, top_k}}, weights.view());
        EXPECT_LT(relative_error(weights.floats(), expected), 1e-5);
        // Float32 sums in another order may swap two experts of equal score; nothing else.
        const std::vector<int32_t> chosen = idx.values();
        int64_t num_different = 0;
        for (size_t i = 0; i < chosen.size(); ++i) num_different += chosen[i] != expected_idx[i];
        EXPECT_LE(num_different, 2) << rows << " rows, " << num_experts << " experts";
      }
    }
  }
}

TEST_F(CudaExpertsTest, TiesGoToTheSmallerId) {
  WeightMatrix proj{16, 72, std::vector<uint16_t>(16 * 72)};
  Random random(2);
  WeightMatrix gains = random.gains(72);
  WeightMatrix ones{1, 16, std::vector<uint16_t>(16, float_to_bf16(1))};
  const DeviceArray<int32_t> idx(ops(), std::vector<int32_t>(4, -1));
  const DeviceTensor weights = empty(DType::kFloat32, 1, 4);
  const DeviceTensor device_proj = on_device(proj);
  const DeviceTensor device_gains = on_device(gains);
  const DeviceTensor device_ones = on_device(ones);
  ops().route({device_proj.view(), device_gains.vector_view(), device_ones.vector_view()},
              on_device(random.floats(1, 72)).view(), kEps, {idx.data(), DType::kInt32, {1, 4}},
              weights.view());
  EXPECT_EQ(idx.values(), (std::vector<int32_t>{0, 1, 2, 3}));
  for (const float weight : weights.floats().data) EXPECT_NEAR(weight, 0.25, 1e-6);
}

TEST_F(CudaExpertsTest, GroupsAreThoseOfTheCpu) {
  Random random(3);
  // One tile of entries and several.
  for (const int64_t rows : {0, 1, 3, 65, 256, 257, kIsEmulated ? 600 : 4096}) {
    Routing routing = random_routing(random, rows, 8, 128);
    expect_same_groups(routing, identity(128), 128);
    // A part of the experts is held elsewhere, and some entries are unused.
    std::vector<int32_t> slots(128, -1);
    for (int e = 0; e < 40; ++e) slots[static_cast<size_t>((e * 7 + 3) % 128)] = e;
    for (size_t i = 0; i < routing.idx.size(); i += 5) routing.idx[i] = -1;
    expect_same_groups(routing, slots, 40);
  }
  Routing one = make_routing(random, 33, 2, [](int64_t, int64_t k) { return k == 0 ? 6 : 2; });
  expect_same_groups(one, identity(16), 16);
  // All on one expert, with odd numbers of entries a row; more experts than threads.
  for (const int64_t top_k : {1, 3, 32}) {
    Routing same = make_routing(random, 1025, top_k, [](int64_t, int64_t k) {
      return k == 0 ? 5 : static_cast<int32_t>(40 + k);
    });
    expect_same_groups(same, identity(128), 128);
    expect_same_groups(same, identity(1000), 1000);
  }
  Routing none = make_routing(random, 5, 2, [](int64_t, int64_t) { return -1; });
  expect_same_groups(none, identity(16), 16);
}

// A few rows are chosen for and sorted by one kernel: the same as by two operations, every time.
TEST_F(CudaExpertsTest, RoutingAndGroupingAtOnceIsTheSame) {
  Random random(6);
  const int64_t hidden = kIsEmulated ? 264 : 2816;
  for (const int num_experts : {16, 128, 136}) {
    const DeviceTensor proj = on_device(random.weights(num_experts, hidden, 1));
    const DeviceTensor scale = on_device(random.gains(hidden));
    const DeviceTensor per_expert = on_device(random.gains(num_experts));
    const RouterWeights weights = {proj.view(), scale.vector_view(), per_expert.vector_view()};
    std::vector<int32_t> slots = identity(num_experts);
    slots[3] = slots[7] = -1;  // held elsewhere
    const DeviceArray<int32_t> device_slots(ops(), slots);
    for (const int64_t rows : {0, 1, 2, 3, 4, 5, 17}) {
      const int64_t top_k = num_experts == 16 ? 4 : 8;
      const DeviceTensor x = on_device(random.floats(rows, hidden));
      const auto entries = static_cast<size_t>(rows * top_k);
      std::vector<std::vector<int32_t>> results[2];
      std::vector<float> group_weights[2];
      for (int at_once = 0; at_once < 2; ++at_once) {
        const DeviceArray<int32_t> idx(ops(), std::vector<int32_t>(entries));
        const TensorView idx_view(idx.data(), DType::kInt32, {rows, top_k});
        const DeviceTensor chosen = empty(DType::kFloat32, rows, top_k);
        const auto ints = [&](size_t n) { return std::vector<int32_t>(n, -7); };
        DeviceGroups groups = {{ops(), ints(static_cast<size_t>(num_experts) + 1)},
                               {ops(), ints(entries)},
                               {ops(), ints(static_cast<size_t>(rows) + 1)},
                               {ops(), ints(entries)},
                               {ops(), ints(entries)},
                               {ops(), std::vector<float>(entries, -7)},
                               {ops(), std::vector<int64_t>(static_cast<size_t>(num_experts), 2)}};
        if (at_once == 1) {
          ops().route_and_group(weights, x.view(), kEps, idx_view, chosen.view(),
                                device_slots.data(), groups.view(num_experts));
        } else {
          ops().route(weights, x.view(), kEps, idx_view, chosen.view());
          ops().group_by_expert(idx_view, chosen.view(), device_slots.data(),
                                groups.view(num_experts));
        }
        std::vector<int32_t> load;
        for (const int64_t count : groups.load.values())
          load.push_back(static_cast<int32_t>(count));
        results[at_once] = {idx.values(),
                            groups.offsets.values(),
                            groups.row_idx.values(),
                            groups.leaf_offsets.values(),
                            groups.leaf_rows.values(),
                            groups.leaf_keys.values(),
                            load};
        group_weights[at_once] = groups.weight.values();
      }
      EXPECT_EQ(results[0], results[1]) << rows << " rows, " << num_experts << " experts";
      EXPECT_EQ(group_weights[0], group_weights[1]);
      if (rows > 0) {
        EXPECT_NE(results[0][1].back(), 0);
      }
    }
  }
}

struct Experts {
  WeightMatrix gate_up, down;
  int64_t num, hidden, width;
  ExpertWeights view() {
    return {{gate_up.data.data(), DType::kBFloat16, {num, 2 * width, hidden}},
            {down.data.data(), DType::kBFloat16, {num, hidden, width}}};
  }
};

class CudaExpertFfnTest : public CudaExpertsTest {
 protected:
  Experts make_experts(Random& random, int64_t num, int64_t hidden, int64_t width) {
    return {random.weights(num * 2 * width, hidden, 0.05f),
            random.weights(num * hidden, width, 0.05f), num, hidden, width};
  }

  // The largest of both ways: of this device, and of every supported one.
  double error_of(Experts& experts, const DeviceTensor& gate_up, const DeviceTensor& down,
                  Routing& routing, Random& random) {
    const int num = static_cast<int>(experts.num);
    const HostGroups groups = [&] {
      HostGroups g = host_groups(routing, num);
      const std::vector<int32_t> slots = identity(num);
      cpu().group_by_expert(routing.idx_view(), routing.weights.view(), slots.data(), g.view(num));
      return g;
    }();
    const int count = static_cast<int>(routing.idx.size());
    const FloatMatrix x = rounded_to_bf16(random.floats(routing.weights.num_rows, experts.hidden));
    FloatMatrix copy = x;
    FloatMatrix expected(count, experts.hidden);
    cpu().expert_ffn(experts.view(), copy.view(),
                     {count, groups.offsets.data(), groups.row_idx.data(), groups.weight.data()},
                     expected.view());
    const DeviceTensor device_x = on_device(x, DType::kBFloat16);
    const DeviceArray<int32_t> offsets(ops(), groups.offsets);
    const DeviceArray<int32_t> row_idx(ops(), groups.row_idx);
    const DeviceArray<float> weight(ops(), groups.weight);
    ops().download(nullptr, nullptr, 0);  // the other stream must see what was uploaded
    double error = 0;
    for (Ops* device : {&ops(), plain_.get()}) {
      const DeviceTensor out(*device, DType::kFloat32, count, experts.hidden);
      device->expert_ffn({gate_up.shaped({experts.num, 2 * experts.width, experts.hidden}),
                          down.shaped({experts.num, experts.hidden, experts.width})},
                         device_x.view(), {count, offsets.data(), row_idx.data(), weight.data()},
                         out.view());
      error = std::max(error, relative_error(out.floats(), expected));
    }
    return error;
  }

 private:
  void SetUp() override {
    CudaExpertsTest::SetUp();
    if (!IsSkipped()) plain_ = plain_ops();
  }

  std::unique_ptr<Ops> plain_;
};

TEST_F(CudaExpertFfnTest, AgreesAtEverySizeAndDivision) {
  Random random(4);
  const int num = kIsEmulated ? 16 : 128;
  const int64_t top_k = kIsEmulated ? 4 : 8;
  Experts experts = make_experts(random, num, kIsEmulated ? 72 : 2816, kIsEmulated ? 48 : 704);
  const DeviceTensor gate_up = on_device(experts.gate_up);
  const DeviceTensor down = on_device(experts.down);
  // Few, some and many rows an expert: every plan.
  for (const int64_t rows : {0, 1, 3, 17, 65, kIsEmulated ? 150 : 1025, kIsEmulated ? 500 : 2100}) {
    Routing even = random_routing(random, rows, top_k, num);
    EXPECT_LT(error_of(experts, gate_up, down, even, random), kInnerTolerance) << rows;
    // As if top_k were 1, all on one expert, or on the last two.
    Routing one = make_routing(random, rows, 1, [](int64_t, int64_t) { return 5; });
    EXPECT_LT(error_of(experts, gate_up, down, one, random), kInnerTolerance) << rows;
    Routing last = make_routing(random, rows, 2, [&](int64_t row, int64_t k) {
      return num - 1 - static_cast<int32_t>(k == 0 ? 0 : 1 + row % 3);
    });
    EXPECT_LT(error_of(experts, gate_up, down, last, random), kInnerTolerance) << rows;
  }
}

// More than one tile of columns and several steps of k, none of them whole, with every width of the
// products of warpgroups, and more rows than one tile.
TEST_F(CudaExpertFfnTest, AgreesWithPartsOfTilesAtEveryWidth) {
  Random random(6);
  Experts experts = make_experts(random, 1, kIsEmulated ? 144 : 1424, kIsEmulated ? 72 : 200);
  const DeviceTensor gate_up = on_device(experts.gate_up);
  const DeviceTensor down = on_device(experts.down);
  for (int64_t rows = 25; rows < 330; rows += 16) {
    Routing routing = make_routing(random, rows, 1, [](int64_t, int64_t) { return 0; });
    EXPECT_LT(error_of(experts, gate_up, down, routing, random), kInnerTolerance) << rows;
  }
}

// So much of k that stages are used again in one tile.
TEST_F(CudaExpertFfnTest, AgreesWhenStagesComeAround) {
  Random random(7);
  Experts experts = make_experts(random, 1, 656, 16);
  const DeviceTensor gate_up = on_device(experts.gate_up);
  const DeviceTensor down = on_device(experts.down);
  for (const int64_t rows : {41, 100, 150}) {
    Routing routing = make_routing(random, rows, 1, [](int64_t, int64_t) { return 0; });
    EXPECT_LT(error_of(experts, gate_up, down, routing, random), kInnerTolerance) << rows;
  }
}

// The control: two experts exchanged.
TEST_F(CudaExpertFfnTest, ComparisonSeesAWrongExpert) {
  Random random(5);
  Experts experts = make_experts(random, 4, 72, 48);
  Experts swapped = experts;
  const auto size = static_cast<std::ptrdiff_t>(experts.width * experts.hidden);
  std::swap_ranges(swapped.down.data.begin(), swapped.down.data.begin() + size,
                   swapped.down.data.begin() + size);
  Routing routing = make_routing(random, 20, 2, [](int64_t, int64_t k) { return k == 0 ? 1 : 3; });
  const DeviceTensor gate_up = on_device(experts.gate_up);
  EXPECT_LT(error_of(experts, gate_up, on_device(experts.down), routing, random), kInnerTolerance);
  EXPECT_GT(error_of(experts, gate_up, on_device(swapped.down), routing, random),
            10 * kInnerTolerance);
}

}  // namespace
}  // namespace beryl::kernels
