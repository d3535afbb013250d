// Pictures and videos in chat requests: from the JSON to the request that the engine gets.
#include <fmt/format.h>
#include <netinet/in.h>

#include <chrono>
#include <cstring>

#include "tests/coordinator/api/api_fixture.h"
#include "tests/coordinator/media/encoders.h"
#include "tests/coordinator/media/pictures.h"
#include "tests/coordinator/media/video_files.h"
#include "tests/coordinator/media/web_server.h"

namespace beryl::api {
namespace {

using media::golden_picture;
using media::png_data_uri;
using media::WebServer;

class MediaTest : public ApiFixture {
 protected:
  MediaTest() {
    engine_options_.model.accepts_media = true;
    config_.num_slow_pool_threads = 1;
  }

  static std::string image_part(const std::string& url, const std::string& detail = "") {
    Json part = {{"type", "image_url"}, {"image_url", {{"url", url}}}};
    if (!detail.empty()) part["image_url"]["detail"] = detail;
    return part.dump();
  }
  static std::string text_part(const std::string& text) {
    return Json{{"type", "text"}, {"text", text}}.dump();
  }
  static std::string body_of(const std::string& parts, const std::string& members = "") {
    return fmt::format(R"({{"messages":[{{"role":"user","content":[{}]}}]{}}})", parts, members);
  }

  http::RawResponse chat(const std::string& parts, const std::string& members = "") const {
    return post("/v1/chat/completions", body_of(parts, members));
  }

  // What went to the engine must be `num_images` runs of equal ids between brackets.
  void expect_placed(size_t num_images, const char* soft_token) const {
    const cluster::GenerationRequest request = engine_->last_request();
    ASSERT_EQ(request.media.size(), num_images);
    const auto text_at = [&](size_t i) {
      return std::string(tokenizer_->token_text(request.prompt_token_ids.at(i)));
    };
    size_t num_soft_tokens = 0;
    for (const media::PlacedImage& placed : request.media) {
      const size_t end = placed.first_soft_token + placed.image->num_soft_tokens();
      EXPECT_EQ(text_at(placed.first_soft_token - 1), "<|image>");
      for (size_t i = placed.first_soft_token; i < end; ++i) ASSERT_EQ(text_at(i), soft_token);
      EXPECT_EQ(text_at(end), "<image|>");
      num_soft_tokens += placed.image->num_soft_tokens();
    }
    size_t num_in_prompt = 0;
    for (size_t i = 0; i < request.prompt_token_ids.size(); ++i) {
      if (text_at(i) == soft_token) ++num_in_prompt;
    }
    EXPECT_EQ(num_in_prompt, num_soft_tokens);
  }

  void expect_refused(const std::string& parts, const std::string& param,
                      const std::string& message = "", const std::string& members = "",
                      int status = 400) const {
    const uint64_t num_before = engine_->num_submitted();
    const http::RawResponse response = chat(parts, members);
    EXPECT_EQ(response.status, status) << response.body;
    const Json error = Json::parse(response.body)["error"];
    EXPECT_EQ(error["param"], param) << response.body;
    if (!message.empty()) {
      EXPECT_EQ(error["message"], message);
    }
    EXPECT_EQ(engine_->num_submitted(), num_before);
  }
};

TEST_F(MediaTest, PlacesPicturesAmongText) {
  start();
  const auto response =
      chat(text_part("compare") + "," + image_part(png_data_uri(golden_picture(640, 480))) + "," +
           text_part("with") + "," + image_part(png_data_uri(golden_picture(100, 300)), "low"));
  ASSERT_EQ(response.status, 200) << response.body;
  expect_placed(2, "<|image|>");
  const auto request = engine_->last_request();
  EXPECT_EQ(request.media[0].image->num_soft_tokens(), 266U);
  EXPECT_EQ(request.media[0].image->width, 912U);
  EXPECT_LE(request.media[1].image->num_soft_tokens(), 70U);
  const Json usage = Json::parse(response.body)["usage"];
  const size_t num_image_tokens = 266 + request.media[1].image->num_soft_tokens();
  EXPECT_EQ(usage["prompt_tokens_details"]["image_tokens"], num_image_tokens);
  EXPECT_EQ(usage["prompt_tokens"], request.prompt_token_ids.size());
  EXPECT_FALSE(usage["prompt_tokens_details"].contains("video_tokens"));
}

TEST_F(MediaTest, StreamsWithPictures) {
  start();
  const auto response = chat(image_part(png_data_uri(golden_picture(48, 48))),
                             R"(,"stream":true,"stream_options":{"include_usage":true},"n":2)");
  ASSERT_EQ(response.status, 200);
  const auto events = events_of(response.body);
  ASSERT_GE(events.size(), 2U);
  EXPECT_EQ(events[events.size() - 2]["usage"]["prompt_tokens_details"]["image_tokens"], 256);
}

TEST_F(MediaTest, TakesEverySpelling) {
  start();
  const std::string url = png_data_uri(golden_picture(48, 48));
  const std::string parts[] = {
      Json{{"type", "image_url"}, {"image_url", url}}.dump(),
      Json{{"type", "input_image"}, {"image_url", url}, {"detail", "auto"}}.dump(),
      Json{{"type", "image"}, {"image", url}}.dump(),
      Json{{"type", "image"}, {"url", url}}.dump(),
      Json{{"type", "image_url"}, {"image_url", {{"url", url}, {"detail", nullptr}}}}.dump(),
  };
  for (const std::string& part : parts) {
    const auto response = chat(part);
    EXPECT_EQ(response.status, 200) << part << response.body;
    expect_placed(1, "<|image|>");
  }
}

TEST_F(MediaTest, ObeysBudgets) {
  start();
  const std::string part = image_part(png_data_uri(golden_picture(640, 480)));
  const std::pair<int, uint32_t> cases[] = {
      {70, 63}, {140, 130}, {280, 266}, {560, 540}, {1120, 1064}};
  for (const auto& [budget, num_soft_tokens] : cases) {
    const auto response =
        chat(part, fmt::format(R"(,"mm_processor_kwargs":{{"max_soft_tokens":{}}})", budget));
    ASSERT_EQ(response.status, 200) << response.body;
    EXPECT_EQ(engine_->last_request().media[0].image->num_soft_tokens(), num_soft_tokens);
  }
  // A part goes before the request.
  ASSERT_EQ(chat(image_part(png_data_uri(golden_picture(640, 480)), "high"),
                 R"(,"mm_processor_kwargs":{"max_soft_tokens":70})")
                .status,
            200);
  EXPECT_EQ(engine_->last_request().media[0].image->num_soft_tokens(), 1064U);
}

TEST_F(MediaTest, RefusesBadOptions) {
  start();
  const std::string part = image_part(png_data_uri(golden_picture(8, 8)));
  const std::pair<const char*, const char*> cases[] = {
      {"mm_processor_kwargs.max_soft_tokens", R"(,"mm_processor_kwargs":{"max_soft_tokens":100})"},
      {"mm_processor_kwargs.max_soft_tokens", R"(,"mm_processor_kwargs":{"max_soft_tokens":-70})"},
      {"mm_processor_kwargs.max_soft_tokens", R"(,"mm_processor_kwargs":{"max_soft_tokens":"70"})"},
      {"mm_processor_kwargs", R"(,"mm_processor_kwargs":{"do_resize":false})"},
      {"mm_processor_kwargs", R"(,"mm_processor_kwargs":7)"},
      {"media_io_kwargs", R"(,"media_io_kwargs":{"audio":{}})"},
      {"media_io_kwargs.video", R"(,"media_io_kwargs":{"video":{"x":1}})"},
      {"media_io_kwargs.video.num_frames", R"(,"media_io_kwargs":{"video":{"num_frames":0}})"},
      {"media_io_kwargs.video.num_frames", R"(,"media_io_kwargs":{"video":{"num_frames":99999}})"},
      {"media_io_kwargs.video.fps", R"(,"media_io_kwargs":{"video":{"fps":0}})"},
      {"media_io_kwargs.video.fps", R"(,"media_io_kwargs":{"video":{"fps":"2"}})"},
  };
  for (const auto& [param, members] : cases) expect_refused(part, param, "", members);
}

TEST_F(MediaTest, NamesTheBadPart) {
  start();
  const std::string text = text_part("look") + ",";
  const std::string param = "messages[0].content[1].image_url.url";
  const std::string png = media::encode_png(golden_picture(61, 43));
  expect_refused(text + image_part("data:image/png;base64,AA="), param,
                 "The data: URI is not valid base64.");
  expect_refused(text + image_part("data:image/png;base64,"), param, "The picture is empty.");
  expect_refused(text + image_part("data:image/png;base64,AAAA"), param,
                 "The data is no picture: JPEG, PNG, WebP or GIF is needed.");
  expect_refused(text + image_part("data:image/png;base64," + media::to_base64(png.substr(0, 300))),
                 param, "The PNG file is damaged: it ends too early.");
  expect_refused(text + image_part("picture.png"), param,
                 "The URL must begin with data:, http: or https:.");
  expect_refused(text + image_part("file:///etc/passwd"), param,
                 "file: URLs are not allowed here.");
  expect_refused(text + image_part("http://127.0.0.1:80/"), param);
  expect_refused(text + image_part(png_data_uri(golden_picture(8, 8)), "medium"),
                 "messages[0].content[1].image_url.detail");
  expect_refused(text + R"({"type":"image_url"})", "messages[0].content[1].image_url");
  expect_refused(text + R"({"type":"image_url","image_url":{}})", param);
  expect_refused(text + R"({"type":"image_url","image_url":{"url":7}})", param);
  expect_refused(text + R"({"type":"image_url","image_url":7})",
                 "messages[0].content[1].image_url");
  expect_refused(text + R"({"type":"input_audio","input_audio":{}})", "messages[0].content[1]", "",
                 "", 501);
}

// A mislabelled picture is a picture.
TEST_F(MediaTest, IgnoresTheLabel) {
  start();
  const std::string gif = media::to_base64(media::encode_gif(golden_picture(61, 43)));
  EXPECT_EQ(chat(image_part("data:image/jpeg;base64," + gif)).status, 200);
  EXPECT_EQ(chat(image_part("data:text/html;base64," + gif)).status, 200);
}

TEST_F(MediaTest, FetchesAndRefusesByAddress) {
  WebServer server(
      WebServer::Responses{{"/a", media::ok_response(media::encode_png(golden_picture(48, 48)))},
                           {"/away", media::redirect_response("http://127.0.0.2:80/x")},
                           {"/silent", ""}});
  options_.media.fetch.allowed_ports = {server.port(), 80};
  options_.media.fetch.timeout = std::chrono::milliseconds(300);
  // The test server stands for the public internet.
  options_.media.fetch.is_allowed_address = [](const sockaddr& address) {
    sockaddr_in ipv4 = {};
    std::memcpy(&ipv4, &address, sizeof(ipv4));
    return ipv4.sin_addr.s_addr == htonl(INADDR_LOOPBACK);
  };
  start();
  EXPECT_EQ(chat(image_part(server.url("/a"))).status, 200);
  expect_placed(1, "<|image|>");
  const std::string param = "messages[0].content[0].image_url.url";
  const std::string refused =
      "The URL could not be fetched: it must name a file on a public web server.";
  expect_refused(image_part(server.url("/away")), param, refused);
  const auto begin = std::chrono::steady_clock::now();
  expect_refused(image_part(server.url("/silent")), param, refused);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
}

TEST_F(MediaTest, CountsMedia) {
  options_.media.max_images_per_prompt = 2;
  options_.media.max_videos_per_prompt = 0;
  start();
  const std::string part = image_part(png_data_uri(golden_picture(8, 8)));
  EXPECT_EQ(chat(part + "," + part, R"(,"mm_processor_kwargs":{"max_soft_tokens":70})").status,
            200);
  expect_refused(part + "," + part + "," + part, "messages[0].content[2].image_url.url",
                 "At most 2 pictures are allowed in one request.");
  expect_refused(R"({"type":"video_url","video_url":{"url":"data:video/jpeg;base64,AA=="}})",
                 "messages[0].content[0].video_url.url",
                 "At most 0 videos are allowed in one request.");
}

TEST_F(MediaTest, StopsWhereTheContextIsFull) {
  engine_options_.model.max_model_len = 400;
  start();
  const std::string part = image_part(png_data_uri(golden_picture(48, 48)));
  EXPECT_EQ(chat(part).status, 200);
  expect_refused(part + "," + part, "messages[0].content[1].image_url.url");
}

TEST_F(MediaTest, ShowsVideosAsStampedFrames) {
  start();
  std::string url = "data:video/jpeg;base64,";
  for (const uint32_t side : {48U, 60U, 72U}) {
    if (url.back() != ',') url += ',';
    url += media::to_base64(media::encode_jpeg(golden_picture(side, 48)));
  }
  const std::string part = Json{{"type", "video_url"}, {"video_url", {{"url", url}}}}.dump();
  const auto response = chat(part, R"(,"media_io_kwargs":{"video":{"num_frames":2,"fps":0.02}})");
  ASSERT_EQ(response.status, 200) << response.body;
  expect_placed(2, "<|video|>");
  // Frames 0 and 1, fifty seconds apart.
  const auto request = engine_->last_request();
  const auto first = request.media[0];
  std::string between;
  for (size_t i = first.first_soft_token + first.image->num_soft_tokens() + 1;
       i + 1 < request.media[1].first_soft_token; ++i) {
    between += tokenizer_->token_bytes(request.prompt_token_ids[i]);
  }
  EXPECT_EQ(between, " 00:50 ");
  EXPECT_GT(Json::parse(response.body)["usage"]["prompt_tokens_details"]["video_tokens"], 64);
  expect_refused(R"({"type":"video_url","video_url":{"url":"data:video/mp4;base64,AAAA"}})",
                 "messages[0].content[0].video_url.url", "", "", 501);
}

#ifdef BERYL_VIDEO_DECODER
TEST_F(MediaTest, ReadsVideoFiles) {
  options_.media.video_decoder_path = BERYL_VIDEO_DECODER;
  start();
  const std::string file = media::to_base64(media::make_video_file({.num_frames = 20}));
  const std::string members = R"(,"media_io_kwargs":{"video":{"num_frames":2}})";
  const Json part = {{"type", "video_url"},
                     {"video_url", {{"url", "data:video/mp4;base64," + file}}}};
  auto response = chat(part.dump(), members);
  ASSERT_EQ(response.status, 200) << response.body;
  expect_placed(2, "<|video|>");
  const auto hash = engine_->last_request().media[1].image->hash;
  const Json bare = {{"type", "input_video"}, {"input_video", {{"data", file}}}};
  response = chat(bare.dump(), members);
  ASSERT_EQ(response.status, 200) << response.body;
  EXPECT_EQ(engine_->last_request().media[1].image->hash, hash);
  expect_refused(R"({"type":"video_url","video_url":{"url":"data:video/mp4;base64,AAAA"}})",
                 "messages[0].content[0].video_url.url",
                 "The data is no video: MP4, MOV, WebM, MKV, AVI or GIF is needed.");
  expect_refused(R"({"type":"input_video","input_video":{"data":"*"}})",
                 "messages[0].content[0].input_video.data");
}
#endif

TEST_F(MediaTest, CountsWhatItReads) {
  start();
  EXPECT_EQ(chat(image_part(png_data_uri(golden_picture(48, 48)))).status, 200);
  EXPECT_EQ(chat(image_part("data:image/png;base64,AAAA")).status, 400);
  EXPECT_EQ(chat(image_part("http://127.0.0.1:80/a.png")).status, 400);
  const std::string metrics = get("/metrics").body;
  for (const char* const line : {"beryl_media_parts_total{kind=\"image\",outcome=\"ok\"} 1\n",
                                 "beryl_media_parts_total{kind=\"image\",outcome=\"refused\"} 2\n",
                                 "beryl_media_pictures_total 1\n",
                                 "beryl_media_prepared_bytes_total 1769472\n",  // 768 * 768 * 3
                                 "beryl_media_load_seconds_count{kind=\"image\"} 3\n",
                                 "beryl_media_fetch_failures_total 1\n"}) {
    EXPECT_NE(metrics.find(line), std::string::npos) << line;
  }
}

TEST_F(MediaTest, TokenizeCountsSoftTokens) {
  start();
  const auto response = post("/tokenize", body_of(image_part(png_data_uri(golden_picture(48, 48))),
                                                  R"(,"add_generation_prompt":false)"));
  ASSERT_EQ(response.status, 200) << response.body;
  const auto without =
      post("/tokenize", body_of(text_part(""), R"(,"add_generation_prompt":false)"));
  EXPECT_EQ(Json::parse(response.body)["count"].get<int>(),
            Json::parse(without.body)["count"].get<int>() + 256 + 2);
}

// One slow download must not keep text, or the server's end, waiting.
TEST_F(MediaTest, ServesTextWhileADownloadHangs) {
  WebServer server(WebServer::Responses{{"/silent", ""}});
  options_.media.fetch.allowed_ports = {server.port()};
  engine_options_.model.max_model_len = 65'536;
  options_.media.fetch.is_allowed_address = [](const sockaddr&) { return true; };
  start();
  http::RawClient client(port());
  ASSERT_TRUE(client.send(
      http::post_request("/v1/chat/completions", body_of(image_part(server.url("/silent"))))));
  ASSERT_TRUE(eventually([&] { return server.num_requests() == 1; }));
  EXPECT_EQ(post("/v1/chat/completions", chat_body("", std::string(8'000, 'x'))).status, 200);
  // The client goes: the download ends at once, far before its own time limit.
  const auto begin = std::chrono::steady_clock::now();
  client.close();
  ASSERT_TRUE(eventually([&] { return server_->num_requests_in_flight() == 0; }));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  EXPECT_EQ(engine_->num_submitted(), 1U);
}

TEST_F(MediaTest, SaysSoWhereTheEngineReadsTextOnly) {
  engine_options_.model.accepts_media = false;
  start();
  expect_refused(image_part(png_data_uri(golden_picture(8, 8))),
                 "messages[0].content[0].image_url.url",
                 "The workers of this server read text only.", "", 501);
  EXPECT_EQ(Json::parse(get("/v1/models").body)["data"][0]["architecture"]["input_modalities"],
            Json::array({"text"}));
}

TEST_F(MediaTest, SaysWhatItReads) {
  start();
  EXPECT_EQ(Json::parse(get("/v1/models").body)["data"][0]["architecture"]["input_modalities"],
            Json::array({"text", "image", "video"}));
}

}  // namespace
}  // namespace beryl::api
