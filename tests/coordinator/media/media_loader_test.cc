// From URLs of every kind to prepared media.
#include "coordinator/media/media_loader.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "coordinator/media/frame_sampling.h"
#include "tests/coordinator/media/encoders.h"
#include "tests/coordinator/media/pictures.h"
#include "tests/coordinator/media/web_server.h"

namespace beryl::media {
namespace {

constexpr uint32_t kBudget = 70;

std::string error_of(const MediaLoader& loader, const std::string& url) {
  const auto image = loader.load_image(url, kBudget, {});
  return image ? "" : image.error().message;
}

TEST(MediaLoaderTest, LoadsTheSamePictureFromEverywhere) {
  const std::string png = encode_png(golden_picture(61, 43));
  WebServer server(WebServer::Responses{{"/a.txt", ok_response(png)}});
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("beryl_media_" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "a b.jpeg", std::ios::binary) << png;
  MediaOptions options;
  options.fetch.allowed_ports = {server.port()};
  options.fetch.is_allowed_address = [](const sockaddr&) { return true; };
  options.allowed_local_media_path = folder;
  const MediaLoader loader(options);
  const auto inlined = loader.load_image(png_data_uri(golden_picture(61, 43)), kBudget, {});
  const auto fetched = loader.load_image(server.url("/a.txt"), kBudget, {});
  const auto local = loader.load_image("file://" + (folder / "a%20b.jpeg").string(), kBudget, {});
  std::filesystem::remove_all(folder);
  ASSERT_TRUE(inlined) << inlined.error().message;
  ASSERT_TRUE(fetched) << fetched.error().message;
  ASSERT_TRUE(local) << local.error().message;
  EXPECT_EQ((*inlined)->hash, (*fetched)->hash);
  EXPECT_EQ((*inlined)->hash, (*local)->hash);
  EXPECT_LE((*inlined)->num_soft_tokens(), kBudget);
}

TEST(MediaLoaderTest, ReadsFilesOnlyBelowItsFolder) {
  const std::filesystem::path root =
      std::filesystem::temp_directory_path() / ("beryl_files_" + std::to_string(getpid()));
  std::filesystem::create_directories(root / "in" / "folder");
  std::filesystem::create_directories(root / "inside");
  std::ofstream(root / "secret.png", std::ios::binary) << encode_png(golden_picture(8, 8));
  std::ofstream(root / "inside" / "a.png", std::ios::binary) << encode_png(golden_picture(8, 8));
  std::filesystem::create_symlink(root / "secret.png", root / "in" / "link.png");
  MediaOptions options;
  options.allowed_local_media_path = root / "in";
  const MediaLoader loader(options);
  const std::string refused = "The file: URL names no file that may be read here.";
  const std::string base = "file://" + root.string();
  for (const std::string path :
       {"/secret.png", "/in/../secret.png", "/in/%2e%2e/secret.png", "/in/link.png", "/in/folder",
        "/in/missing.png", "/in/a%00b", "/inside/a.png"}) {
    EXPECT_EQ(error_of(loader, base + path), refused) << path;
  }
  EXPECT_EQ(error_of(loader, "file://elsewhere/etc/passwd"), refused);
  EXPECT_EQ(error_of(MediaLoader({}), base + "/secret.png"), "file: URLs are not allowed here.");
  std::filesystem::remove_all(root);
}

TEST(MediaLoaderTest, RefusesOtherSchemes) {
  const MediaLoader loader({});
  for (const std::string url : {"", "picture.png", "ftp://a/b", "javascript:x", "://", "DATA"}) {
    EXPECT_EQ(error_of(loader, url), "The URL must begin with data:, http: or https:.") << url;
  }
}

TEST(MediaLoaderTest, EndsAtTheDeadline) {
  const StopCondition over{.deadline = std::chrono::steady_clock::now()};
  const auto image = MediaLoader({}).load_image(png_data_uri(golden_picture(8, 8)), kBudget, over);
  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().code, base::ErrorCode::kDeadlineExceeded);
}

std::string frame_list(size_t num_frames) {
  std::string uri = "data:video/jpeg;base64,";
  for (size_t i = 0; i < num_frames; ++i) {
    const std::string frame = png_data_uri(golden_picture(8 + static_cast<uint32_t>(i), 8));
    if (i > 0) uri += ',';
    uri += frame.substr(frame.find(',') + 1);
  }
  return uri;
}

TEST(MediaLoaderTest, SamplesAListOfFrames) {
  const MediaLoader loader({});
  const auto frames = loader.load_video(frame_list(10), {.num_frames = 4, .fps = 0.1}, {});
  ASSERT_TRUE(frames) << frames.error().message;
  ASSERT_EQ(frames->size(), 4U);
  // Frames 0, 2, 5 and 7, ten seconds apart.
  EXPECT_EQ((*frames)[1].timestamp_s, 20);
  EXPECT_EQ((*frames)[3].timestamp_s, 70);
  EXPECT_EQ(format_timestamp((*frames)[3].timestamp_s), "01:10");
  for (const VideoFrame& frame : *frames) EXPECT_LE(frame.image->num_soft_tokens(), 70U);
  const auto all = loader.load_video(frame_list(3), {}, {});
  ASSERT_TRUE(all);
  EXPECT_EQ(all->size(), 3U);
  EXPECT_EQ((*all)[2].timestamp_s, 2 / 24.0);
}

TEST(MediaLoaderTest, NamesTheBadFrame) {
  const auto error = [](const std::string& url, const MediaOptions& options = {}) {
    const auto frames = MediaLoader(options).load_video(url, {}, {});
    return frames ? std::string() : frames.error().message;
  };
  EXPECT_EQ(error("data:video/jpeg;base64,"), "Frame 0 of the video is empty.");
  EXPECT_EQ(error(frame_list(2) + ","), "Frame 2 of the video is empty.");
  EXPECT_EQ(error(frame_list(1) + ",AAA"), "Frame 1 is not valid base64.");
  EXPECT_EQ(error(frame_list(1) + ",AAAA"),
            "Frame 1: The data is no picture: JPEG, PNG, WebP or GIF is needed.");
  MediaOptions few;
  few.video.max_listed_frames = 2;
  EXPECT_EQ(error(frame_list(3), few), "The video lists more than 2 frames.");
  EXPECT_NE(error("data:video/mp4;base64,AAAA").find("only lists of pictures"), std::string::npos);
}

TEST(FrameListTest, SpreadsEvenly) {
  EXPECT_EQ(sample_frames(64, 32).back(), 62U);
  EXPECT_EQ(sample_frames(5, 32), (std::vector<uint32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(sample_frames(100, 3), (std::vector<uint32_t>{0, 33, 66}));
}

TEST(TimestampTest, HasTwoDigitsEach) {
  EXPECT_EQ(format_timestamp(0), "00:00");
  EXPECT_EQ(format_timestamp(59.99), "00:59");
  EXPECT_EQ(format_timestamp(3'661), "61:01");
  EXPECT_EQ(format_timestamp(6'000), "100:00");
}

}  // namespace
}  // namespace beryl::media
