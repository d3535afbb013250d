// Video files through the process that decodes them: which frames come out, and what happens to bad
// files.
#include "coordinator/media/video/video_decoder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "coordinator/media/frame_sampling.h"
#include "coordinator/media/media_loader.h"
#include "tests/coordinator/media/encoders.h"
#include "tests/coordinator/media/mutation.h"
#include "tests/coordinator/media/video_files.h"
#include "tests/coordinator/media/web_server.h"

namespace beryl::media {
namespace {

constexpr uint32_t kBudget = 70;
constexpr int kCodingError = 6;  // levels of grey that lossy coding may move

using Frames = base::Expected<std::vector<DecodedFrame>>;

Frames decode(std::string_view bytes, const VideoSampling& sampling = {},
              const VideoLimits& limits = {}) {
  const VideoDecoder decoder(BERYL_VIDEO_DECODER, {});
  return decoder.decode(bytes, sampling, kBudget, limits, {});
}

std::string error_of(std::string_view bytes, const VideoLimits& limits = {}) {
  const auto frames = decode(bytes, {}, limits);
  if (frames) return "";
  EXPECT_EQ(frames.error().code, base::ErrorCode::kInvalidArgument);
  return frames.error().message;
}

// Which frame of the file it is, by its grey.
void expect_frame(const DecodedFrame& frame, uint32_t idx) {
  EXPECT_NEAR(frame.timestamp_s, idx / double{kTestVideoFps}, 0.002);
  const auto [least, most] =
      std::minmax_element(frame.image.pixels.begin(), frame.image.pixels.end());
  EXPECT_NEAR(*least, test_level(idx), kCodingError) << "frame " << idx;
  EXPECT_NEAR(*most, test_level(idx), kCodingError) << "frame " << idx;
}

void expect_frames(const Frames& frames, const std::vector<uint32_t>& expected) {
  ASSERT_TRUE(frames) << frames.error().message;
  ASSERT_EQ(frames->size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) expect_frame((*frames)[i], expected[i]);
}

TEST(VideoDecoderTest, TakesTheReferencesFramesFromEveryFormat) {
  const std::vector<VideoFileOptions> forms = {
      {},  // H.264 with frames that are shown in another order than coded
      {.encoding = "-c:v libx264 -pix_fmt yuv420p -g 4 -x264-params open-gop=1:bframes=2"},
      {.encoding = "-c:v libx264 -pix_fmt yuv420p -g 1", .extension = "mkv"},
      {.encoding = "-c:v mpeg4 -q:v 2 -g 7", .extension = "mov"},
      {.encoding = "-c:v mpeg4 -q:v 2 -bf 2 -g 7", .extension = "mp4"},
      {.encoding = "-c:v mpeg4 -q:v 2 -g 7", .extension = "avi"},
      {.encoding = "-c:v mjpeg -q:v 2 -pix_fmt yuvj420p", .extension = "avi"},
      {.encoding = "-c:v libvpx-vp9 -g 6 -auto-alt-ref 1 -lag-in-frames 10", .extension = "webm"},
      {.encoding = "-c:v libvpx -g 6 -b:v 1M", .extension = "webm"},
      {.encoding = "-c:v libx265 -x265-params log-level=none:keyint=8 -pix_fmt yuv420p"},
      {.encoding = "-c:v libaom-av1 -cpu-used 8 -g 10 -pix_fmt yuv420p"},
      {.encoding = "-pix_fmt gray", .extension = "gif"},
  };
  for (const VideoFileOptions& form : forms) {
    SCOPED_TRACE(form.encoding + " " + form.extension);
    expect_frames(decode(make_video_file(form), {.num_frames = 7}), {0, 4, 8, 12, 17, 21, 25});
  }
}

// Sampled frames are so far apart that what lies between is skipped.
TEST(VideoDecoderTest, SkipsToKeyFrames) {
  for (const char* const gop : {"-g 10", "-g 10 -x264-params open-gop=1:bframes=3", "-g 400"}) {
    SCOPED_TRACE(gop);
    const std::string file = make_video_file(
        {.num_frames = 400, .encoding = std::string("-c:v libx264 -pix_fmt yuv420p ") + gop});
    expect_frames(decode(file, {.num_frames = 6}), {0, 66, 133, 200, 266, 333});
  }
}

TEST(VideoDecoderTest, TakesAsManyAsARateAsksFor) {
  const std::string file = make_video_file();
  expect_frames(decode(file, {.num_frames = 32, .fps = 2}), {0, 5, 10, 15, 20, 25});
  expect_frames(decode(file, {.num_frames = 3, .fps = 2}), {0, 10, 20});
  expect_frames(decode(file, {.num_frames = 32, .fps = 0.001}), {0});
}

TEST(VideoDecoderTest, TakesAllFramesOfAShortVideo) {
  expect_frames(decode(make_video_file({.num_frames = 3})), {0, 1, 2});
  expect_frames(decode(make_video_file({.num_frames = 1})), {0});
}

TEST(VideoDecoderTest, NamesTheLimitThatAVideoExceeds) {
  const std::string file = make_video_file();
  EXPECT_EQ(error_of(file, {.max_video_pixels = 64 * 48 - 1}),
            "A frame of the video has 3072 pixels; at most 3071 are allowed.");
  EXPECT_EQ(error_of(file, {.max_video_seconds = 2}),
            "The video lasts 2 seconds; at most 2 are allowed.");
  EXPECT_EQ(error_of(file, {.max_coded_frames = 29}), "The video has more than 29 frames.");
}

TEST(VideoDecoderTest, RefusesWhatIsNoVideo) {
  const std::string no_video = "The data is no video: MP4, MOV, WebM, MKV, AVI or GIF is needed.";
  EXPECT_EQ(error_of(""), no_video);
  EXPECT_EQ(error_of("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"), no_video);
  EXPECT_EQ(error_of("ffconcat version 1.0\nfile /etc/passwd\n"), no_video);
  EXPECT_EQ(error_of(make_video_file({.encoding = "-c:v mpeg2video", .extension = "ts"})),
            no_video);
  EXPECT_EQ(error_of(make_video_file({.encoding = "-c:v ffv1", .extension = "mkv"})),
            "The video must be coded as H.264, HEVC, VP8, VP9, AV1, MPEG-4 or MJPEG.");
}

TEST(VideoDecoderTest, IsMissingWithoutItsProgram) {
  const auto frames = VideoDecoder({}, {}).decode("x", {}, kBudget, {}, {});
  ASSERT_FALSE(frames);
  EXPECT_EQ(frames.error().code, base::ErrorCode::kNotImplemented);
}

// Whatever the bytes are: frames or one line of error.
TEST(VideoDecoderMutationTest, DamagedFilesNeverDoMoreThanFail) {
  const std::vector<std::string> files = {
      make_video_file(),
      make_video_file({.encoding = "-c:v libx264 -pix_fmt yuv420p -movflags +faststart"}),
      make_video_file({.encoding = "-c:v libvpx-vp9", .extension = "webm"}),
      make_video_file({.encoding = "-c:v mpeg4", .extension = "avi"}),
      make_video_file({.encoding = "-pix_fmt gray", .extension = "gif"})};
  std::mt19937_64 random(20'261'124);
  size_t num_accepted = 0;
  const size_t num_runs = num_mutation_runs(60);
  for (size_t run = 0; run < num_runs; ++run) {
    std::string file = files[run % files.size()];
    if (run % 2 == 0) {
      file.resize(random() % file.size());
    } else {
      mutate(file, random);
    }
    const auto frames = decode(file, {.num_frames = 4});
    if (frames) {
      ++num_accepted;
      ASSERT_FALSE(frames->empty());
    } else {
      ASSERT_EQ(frames.error().code, base::ErrorCode::kInvalidArgument) << frames.error().message;
    }
  }
  EXPECT_GT(num_accepted, 0U);
  EXPECT_LT(num_accepted, num_runs * 19 / 20);
}

TEST(VideoDecoderTest, ReadsFilesFromEverywhereInTheLoader) {
  const std::string file = make_video_file({.num_frames = 4});
  WebServer server(WebServer::Responses{{"/v", ok_response(file)}});
  MediaOptions options;
  options.video_decoder_path = BERYL_VIDEO_DECODER;
  options.fetch.allowed_ports = {server.port()};
  options.fetch.is_allowed_address = [](const sockaddr&) { return true; };
  const MediaLoader loader(options);
  const auto inlined = loader.load_video("data:video/mp4;base64," + to_base64(file), {}, {});
  const auto fetched = loader.load_video(server.url("/v"), {}, {});
  ASSERT_TRUE(inlined) << inlined.error().message;
  ASSERT_TRUE(fetched) << fetched.error().message;
  ASSERT_EQ(inlined->size(), 4U);
  for (size_t i = 0; i < inlined->size(); ++i) {
    EXPECT_EQ((*inlined)[i].image->hash, (*fetched)[i].image->hash);
    EXPECT_LE((*inlined)[i].image->num_soft_tokens(), kBudget);
  }
}

}  // namespace
}  // namespace beryl::media
