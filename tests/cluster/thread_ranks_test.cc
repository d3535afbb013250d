// Coordinator and real workers in one process: ranks are threads, everything between them is the
// wire. The same request must give the same tokens on any number of ranks.
#include <gtest/gtest.h>

#include <future>
#include <string>
#include <vector>

#include "tests/coordinator/cluster/cluster_under_test.h"
#include "tests/coordinator/cluster/picture_request.h"
#include "worker/service/launch.h"

namespace beryl::cluster {
namespace {

ClusterOptions patient_options() {
  ClusterOptions options;  // a busy machine must not look like a lost rank
  options.heartbeat_deadline = milliseconds(30'000);
  return options;
}

std::vector<GenerationRequest> sample_requests() {
  std::vector<GenerationRequest> requests;
  for (int32_t i = 0; i < 6; ++i) {
    GenerationRequest request;
    for (int32_t k = 0; k < 5 + 30 * i; ++k) {
      request.prompt_token_ids.push_back(k == 0 ? 2 : 200 + (k * 37 + i * 11) % 700);
    }
    request.sampling.temperature = i % 2 == 0 ? 0.0F : 1.0F;
    request.sampling.top_k = 64;
    request.sampling.seed = static_cast<uint64_t>(i);
    request.max_tokens = 24;
    requests.push_back(request);
  }
  return requests;
}

// Pictures of several sizes, some shared, between text; the placeholder is that of the model.
std::vector<GenerationRequest> picture_requests(uint8_t content) {
  constexpr int32_t kPlaceholder = 19;
  std::vector<GenerationRequest> requests = sample_requests();
  for (size_t i = 0; i < requests.size(); ++i) {
    for (const uint32_t num_tokens : {3U, 5U}) {
      const auto own = static_cast<uint8_t>(content + i);
      append_picture(requests[i], test_image(num_tokens, num_tokens == 3 ? content : own),
                     kPlaceholder);
      requests[i].prompt_token_ids.push_back(21);
    }
    requests[i].prompt_token_ids.push_back(300);
  }
  return requests;
}

std::vector<std::vector<int32_t>> answers_of(int num_ranks,
                                             const std::vector<GenerationRequest>& requests) {
  ClusterUnderTest cluster(patient_options());
  service::WorkerOptions options;
  options.model_dir = BERYL_SOURCE_DIR "/tests/data/tiny";
  options.coordinator = "127.0.0.1:" + std::to_string(cluster->worker_port());
  options.kv_cache_memory = 8 << 20;
  options.max_num_batched_tokens = 64;
  options.feature_cache_tokens = 24;  // less than all pictures need
  options.threads = 1;
  options.log_level = base::LogLevel::kError;
  auto worker = std::async(std::launch::async, [&] {
    return service::run_thread_ranks(options, cluster.secret(), num_ranks);
  });
  EXPECT_TRUE(cluster.wait_until_state(EngineState::kReady));
  std::vector<Completion> completions(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_TRUE(cluster->submit(requests[i], completions[i].sink()));
  }
  std::vector<std::vector<int32_t>> answers;
  for (const Completion& completion : completions) {
    EXPECT_TRUE(completion.wait());
    EXPECT_EQ(completion.reason(), scheduler::FinishReason::kLength) << completion.error();
    answers.push_back(completion.tokens());
  }
  cluster->shut_down();
  EXPECT_EQ(worker.get(), service::kExitClean);
  return answers;
}

TEST(ThreadRanksTest, AnyNumberOfRanksGivesTheSameAnswer) {
  const auto requests = sample_requests();
  const auto one = answers_of(1, requests);
  for (const auto& answer : one) EXPECT_EQ(answer.size(), 24U);
  EXPECT_EQ(answers_of(2, requests), one);
  EXPECT_EQ(answers_of(3, requests), one);
}

TEST(ThreadRanksTest, PicturesGiveTheSameAnswerOnAnyNumberOfRanks) {
  const auto requests = picture_requests(40);
  const auto one = answers_of(1, requests);
  EXPECT_EQ(answers_of(2, requests), one);
  EXPECT_EQ(answers_of(4, requests), one);
  // The pictures are seen: others give other answers.
  const auto others = answers_of(2, picture_requests(90));
  for (size_t i = 0; i < one.size(); ++i) EXPECT_NE(others[i], one[i]) << i;
}

}  // namespace
}  // namespace beryl::cluster
