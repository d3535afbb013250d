// What a worker decides before it registers: options, cache sizes, fingerprint, agreement.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>
#include <tuple>
#include <vector>

#include "kernels/cuda/device_info.h"
#include "parallel/comm/local_communicator.h"
#include "parallel/wire/validate.h"
#include "worker/service/cache_sizing.h"
#include "worker/service/dry_run.h"
#include "worker/service/fingerprint.h"
#include "worker/service/launch.h"
#include "worker/service/rank_device.h"
#include "worker/service/rank_model.h"
#include "worker/service/worker_options.h"

namespace beryl::service {
namespace {

const std::string kTiny = BERYL_SOURCE_DIR "/tests/data/tiny";

model::ModelConfig tiny_config() {
  return model::load_model_config(kTiny + "/config.json");
}

CacheRequest cache_request(uint64_t budget_bytes) {
  return {.block_size = 16,
          .max_num_seqs = 8,
          .max_num_batched_tokens = 128,
          .max_model_len = 0,
          .budget_bytes = budget_bytes};
}

TEST(WorkerOptionsTest, ReadsTheCommandLine) {
  const std::vector<const char*> arguments = {
      "beryl-worker",  kTiny.c_str(), "--group", "2", "--kv-cache-memory", "8MB",
      "--load-format", "dummy",       "--seed",  "7", "--log-format",      "json"};
  const auto parsed = parse_worker_options(static_cast<int>(arguments.size()), arguments.data());
  ASSERT_TRUE(parsed.run);
  EXPECT_EQ(parsed.options.group, 2U);
  EXPECT_EQ(parsed.options.kv_cache_memory, 8U << 20);
  EXPECT_EQ(parsed.options.seed, 7U);
  EXPECT_EQ(parsed.options.log_format, base::LogFormat::kJson);
}

TEST(WorkerOptionsTest, WrongOptionsAreUsageErrors) {
  for (const char* option : {"--block-size=0", "--load-format=magic", "--nonsense"}) {
    const std::vector<const char*> arguments = {"beryl-worker", kTiny.c_str(), option};
    const auto parsed = parse_worker_options(3, arguments.data());
    EXPECT_FALSE(parsed.run) << option;
    EXPECT_EQ(parsed.exit_code, 2) << option;
  }
}

ParsedWorkerOptions parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), {"beryl-worker", kTiny.c_str()});
  return parse_worker_options(static_cast<int>(arguments.size()), arguments.data());
}

TEST(WorkerOptionsTest, BatchDefaultsFollowTheDevice) {
  EXPECT_EQ(parse({}).options.max_num_batched_tokens, 2048U);
  EXPECT_EQ(parse({}).options.max_num_seqs, 64U);
  const auto cuda = parse({"--device", "cuda"}).options;
  EXPECT_EQ(cuda.max_num_batched_tokens, kCudaMaxNumBatchedTokens);
  EXPECT_EQ(cuda.max_num_seqs, kCudaMaxNumSeqs);
  const auto given =
      parse({"--device", "cuda", "--max-num-seqs", "7", "--max-num-batched-tokens", "99"}).options;
  EXPECT_EQ(given.max_num_batched_tokens, 99U);
  EXPECT_EQ(given.max_num_seqs, 7U);
}

TEST(WorkerOptionsTest, ADeviceIsAssumedForADryRunOnly) {
  EXPECT_EQ(parse({"--device-memory", "80GB"}).exit_code, 2);
  const auto dry = parse({"--dry-run", "--device-memory", "80GB"});
  ASSERT_TRUE(dry.run);
  EXPECT_TRUE(dry.options.dry_run);
  EXPECT_EQ(dry.options.device_memory, uint64_t{80} << 30);
}

TEST(RankDeviceTest, TheCacheHasTheTypeOfTheDevice) {
  for (const auto& [device, kept, other] :
       {std::tuple{"cpu", "float32", "bf16"}, std::tuple{"cuda", "bf16", "float32"}}) {
    WorkerOptions options;
    options.device = device;
    EXPECT_NO_THROW(check_device_options(options, 1));
    options.kv_cache_dtype = kept;
    EXPECT_NO_THROW(check_device_options(options, 1));
    options.kv_cache_dtype = other;
    try {
      check_device_options(options, 1);
      FAIL() << device << " accepted " << other;
    } catch (const std::runtime_error& error) {
      EXPECT_NE(std::string(error.what()).find(std::string("possible are auto and ") + kept),
                std::string::npos);
    }
  }
}

TEST(DryRunTest, NeedsNoDeviceWhereItsSizeIsGiven) {
  WorkerOptions options;
  options.model_dir = kTiny;
  EXPECT_EQ(run_dry(options, 2), kExitClean);
  options.device = "cuda";
  options.device_memory = uint64_t{80} << 30;
  EXPECT_EQ(run_dry(options, 1), kExitClean);
  options.device_memory = 1 << 20;  // too little: said, and still not an error
  EXPECT_EQ(run_dry(options, 1), kExitClean);
  options.device_memory = 0;
  const bool has_device = kernels::cuda::query_device(0).is_usable;
  EXPECT_EQ(run_dry(options, 1), has_device ? kExitClean : kExitCannotStart);
}

TEST(CacheSizingTest, TakesNoMoreThanCanBeUsedOrThanTheBudget) {
  const auto config = tiny_config();
  const auto large = plan_cache(config, cache_request(uint64_t{1} << 40));
  ASSERT_TRUE(large);
  // 8 requests of 4096 positions each.
  EXPECT_GE(num_requests_that_fit(config, cache_request(0), large->size, 4096), 8U);
  EXPECT_LT(cache_bytes(config, large->size, kernels::DType::kFloat32), uint64_t{1} << 30);
  EXPECT_EQ(large->max_model_len, 4096U);
  for (const uint64_t budget : {uint64_t{800} << 10, uint64_t{1} << 20, uint64_t{10} << 20}) {
    const auto plan = plan_cache(config, cache_request(budget));
    ASSERT_TRUE(plan) << budget;
    EXPECT_LE(cache_bytes(config, plan->size, kernels::DType::kFloat32), budget);
    CacheRequest one = cache_request(budget);
    one.max_model_len = plan->max_model_len;
    EXPECT_LE(request_bytes(config, one, plan->max_model_len).global +
                  request_bytes(config, one, plan->max_model_len).sliding,
              budget);
  }
}

TEST(CacheSizingTest, SaysWhatIsNeededWhenTheBudgetIsTooSmall) {
  const auto config = tiny_config();
  CacheRequest request = cache_request(1 << 20);
  request.max_model_len = 4096;
  const auto plan = plan_cache(config, request);
  ASSERT_FALSE(plan);
  EXPECT_NE(plan.error().message.find("--kv-cache-memory"), std::string::npos);
  EXPECT_FALSE(plan_cache(config, cache_request(1000)));
}

TEST(RankDeviceTest, CudaWithoutADeviceIsRefusedBeforeAnythingIsLoaded) {
  WorkerOptions options;
  options.device = "cuda";
  const auto info = kernels::cuda::query_device(0);
  if (info.is_usable) {
    EXPECT_NO_THROW(check_device(options, 1));
    EXPECT_THROW(check_device(options, 2), std::runtime_error);
    return;
  }
  try {
    check_device(options, 1);
    FAIL() << "accepted without a device";
  } catch (const std::runtime_error& error) {
    EXPECT_EQ(std::string(error.what()), "--device cuda: " + info.problem);
    EXPECT_FALSE(info.problem.empty());
  }
}

TEST(FingerprintTest, DiffersWithWeightsAndSource) {
  namespace fs = std::filesystem;
  const fs::path copy = fs::path(testing::TempDir()) / "beryl_fingerprint";
  fs::remove_all(copy);
  fs::create_directory(copy);
  for (const char* name : {"config.json", "model.safetensors"}) {
    fs::copy_file(fs::path(kTiny) / name, copy / name);
  }
  WorkerOptions options;
  options.model_dir = kTiny;
  const uint64_t original = model_fingerprint(options);
  options.model_dir = copy;
  EXPECT_EQ(model_fingerprint(options), original);
  options.load_format = "dummy";
  const uint64_t dummy = model_fingerprint(options);
  EXPECT_NE(dummy, original);
  options.seed = 1;
  EXPECT_NE(model_fingerprint(options), dummy);
  options.load_format = "auto";
  std::fstream(copy / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary)
      .write("\x00\x00", 2);
  EXPECT_NE(model_fingerprint(options), original);
  fs::remove_all(copy);
}

// Runs agree_on_launch on two ranks; the text of what each threw, or empty.
std::vector<std::string> agree(const std::vector<WorkerOptions>& options,
                               std::vector<LaunchPlan>& plans) {
  const auto communicators = comm::make_local_group(2);
  std::vector<std::string> errors(2);
  plans.resize(2);
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        plans[rank] = agree_on_launch(options[rank], tiny_config(), *communicators[rank], 2);
      } catch (const std::runtime_error& error) {
        errors[rank] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return errors;
}

TEST(LaunchPlanTest, RanksAgreeOnTheLeast) {
  WorkerOptions options;
  options.model_dir = kTiny;
  options.kv_cache_memory = 2 << 20;
  WorkerOptions smaller = options;
  smaller.kv_cache_memory = 1 << 20;
  std::vector<LaunchPlan> plans;
  const auto errors = agree({options, smaller}, plans);
  EXPECT_EQ(errors, std::vector<std::string>(2));
  EXPECT_EQ(plans[0].launch_id, plans[1].launch_id);
  EXPECT_FALSE(plans[0].launch_id.empty());
  EXPECT_EQ(plans[0].cache.num_pages, plans[1].cache.num_pages);
  EXPECT_EQ(plans[0].max_model_len, plans[1].max_model_len);
}

TEST(LaunchPlanTest, RanksWithDifferentModelsDoNotStart) {
  WorkerOptions options;
  options.model_dir = kTiny;
  WorkerOptions other = options;
  other.load_format = "dummy";
  std::vector<LaunchPlan> plans;
  const auto errors = agree({options, other}, plans);
  EXPECT_NE(errors[0].find("another model"), std::string::npos);
  EXPECT_NE(errors[1].find("another model"), std::string::npos);
}

TEST(LaunchPlanTest, ARankThatCannotStartDoesNotLeaveOthersWaiting) {
  WorkerOptions options;
  options.model_dir = kTiny;
  WorkerOptions tiny_cache = options;
  tiny_cache.kv_cache_memory = 100;
  std::vector<LaunchPlan> plans;
  const auto errors = agree({options, tiny_cache}, plans);
  EXPECT_EQ(errors[0], "rank 1 cannot start");
  EXPECT_NE(errors[1].find("--kv-cache-memory"), std::string::npos);
}

TEST(LaunchPlanTest, TheRegistrationIsValid) {
  WorkerOptions options;
  options.model_dir = kTiny;
  const auto config = tiny_config();
  const auto communicators = comm::make_local_group(1);
  const LaunchPlan plan = agree_on_launch(options, config, *communicators[0], 1);
  const auto registration =
      make_registration(options, config, plan, *communicators[0], describe_device(options, 1));
  const auto status = wire::validate(registration);
  EXPECT_TRUE(status) << status.error().message;
  EXPECT_EQ(registration.model().vocab_size(), 1024U);
}

}  // namespace
}  // namespace beryl::service
