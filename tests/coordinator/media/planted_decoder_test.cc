// A decoder that hangs, lies, crashes or tries to break out: the request fails, nothing else
// happens.
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "coordinator/media/video/video_decoder.h"

namespace beryl::media {
namespace {

using std::chrono::milliseconds;

const VideoLimits kTightLimits{.max_decoder_memory_bytes = size_t{256} << 20U,
                               .max_decoder_cpu_s = 1,
                               .max_decoding_time = milliseconds(5'000)};

struct Outcome {
  std::string error;
  std::string log;
  double seconds = 0;
};

Outcome run(const std::string& deed, const VideoLimits& limits = kTightLimits,
            const StopCondition& stop = {}) {
  Outcome outcome;
  const VideoDecoder decoder(BERYL_PLANTED_DECODER,
                             [&](std::string_view why) { outcome.log = why; });
  const auto begin = std::chrono::steady_clock::now();
  const auto frames = decoder.decode(deed, {.num_frames = 4}, 70, limits, stop);
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  outcome.error = frames ? "" : frames.error().message;
  return outcome;
}

constexpr const char* kNotDecoded =
    "The video could not be decoded: it is damaged or asks for more than a decoder may use.";

TEST(PlantedDecoderTest, IsKilledWhenItHangs) {
  VideoLimits limits = kTightLimits;
  limits.max_decoding_time = milliseconds(300);
  const Outcome outcome = run("hang", limits);
  EXPECT_EQ(outcome.error, "Decoding the video takes longer than 0.3 seconds.");
  EXPECT_LT(outcome.seconds, 3);
}

TEST(PlantedDecoderTest, IsKilledWhenTheClientGoes) {
  std::atomic<bool> gone{false};
  std::thread client([&] {
    std::this_thread::sleep_for(milliseconds(200));
    gone = true;
  });
  const Outcome outcome = run("hang", kTightLimits, {.cancelled = &gone});
  client.join();
  EXPECT_EQ(outcome.error, "The client has gone.");
  EXPECT_LT(outcome.seconds, 3);
}

TEST(PlantedDecoderTest, GetsNoMoreProcessorTimeThanItsLimit) {
  const Outcome outcome = run("spin");
  EXPECT_EQ(outcome.error, kNotDecoded);
  EXPECT_EQ(outcome.log, "signal 9");
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST(PlantedDecoderTest, GetsNoMoreMemoryThanItsLimit) {
  const Outcome outcome = run("eat");
  EXPECT_EQ(outcome.error, kNotDecoded);
  EXPECT_EQ(outcome.log.substr(0, 6), "signal");  // an allocation failed, nobody caught it
}
#endif

TEST(PlantedDecoderTest, IsNotBelieved) {
  for (const std::string deed : {"huge", "odd", "nan", "flood"}) {
    const Outcome outcome = run(deed);
    EXPECT_EQ(outcome.error, kNotDecoded) << deed;
    EXPECT_EQ(outcome.log, "it answered nonsense") << deed;
    EXPECT_LT(outcome.seconds, 4) << deed;
  }
  for (const std::string deed : {"silent", "short", "crash"}) {
    EXPECT_EQ(run(deed).error, kNotDecoded) << deed;
  }
}

// The answer carries how many of five forbidden things worked: files, sockets, signals, executable
// memory, processes.
TEST(PlantedDecoderTest, CanOnlyComputeInTheSandbox) {
  EXPECT_EQ(run("free").error.substr(0, 30), "A frame of the video has 5 pix");
  EXPECT_EQ(run("confined").error.substr(0, 30), "A frame of the video has 0 pix");
}

TEST(PlantedDecoderTest, IsToldApartFromOneThatDoesNotStart) {
  std::string log;
  const VideoDecoder decoder("/nonexistent/decoder", [&](std::string_view why) { log = why; });
  const auto frames = decoder.decode("x", {}, 70, {}, {});
  ASSERT_FALSE(frames);
  EXPECT_EQ(frames.error().code, base::ErrorCode::kUnavailable);
  EXPECT_NE(log.find("does not start"), std::string::npos);
}

}  // namespace
}  // namespace beryl::media
