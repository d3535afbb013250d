#include "coordinator/api/media_parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "coordinator/api/generation_fields.h"
#include "coordinator/media/target_size.h"

namespace beryl::api {
namespace {

using base::Error;
using base::ErrorCode;
using base::Status;
using text::PartKind;
using Kind = Json::Kind;

// The spellings of several APIs. The medium is in the member named, or in `url`.
struct MediaType {
  std::string_view name;
  PartKind kind;
  std::string_view member;
};
constexpr MediaType kMediaTypes[] = {
    {"image_url", PartKind::kImage, "image_url"},
    {"input_image", PartKind::kImage, "image_url"},
    {"image", PartKind::kImage, "image"},
    {"video_url", PartKind::kVideo, "video_url"},
    {"input_video", PartKind::kVideo, "input_video"},
    {"video", PartKind::kVideo, "video"},
};
constexpr std::string_view kNotServed[] = {"audio_url", "input_audio", "audio", "file",
                                           "input_file"};

constexpr uint32_t kLowDetailBudget = 70;
constexpr uint32_t kHighDetailBudget = 1120;

const MediaType* find_type(std::string_view name) {
  const auto* const found =
      std::find_if(std::begin(kMediaTypes), std::end(kMediaTypes),
                   [name](const MediaType& type) { return type.name == name; });
  return found == std::end(kMediaTypes) ? nullptr : found;
}

Status parse_detail(const Json& object, const std::string& path, MediaPart& media) {
  const Json* detail = object.find_set("detail");
  if (detail == nullptr) return Status::ok();
  const std::string param = path + ".detail";
  if (!detail->is(Kind::kString)) return wrong_type(param, "a string", *detail);
  if (detail->text == "auto") return Status::ok();
  if (detail->text != "low" && detail->text != "high") {
    return base::invalid_argument(param, param + " must be auto, low or high.");
  }
  media.budget = detail->text == "low" ? kLowDetailBudget : kHighDetailBudget;
  return Status::ok();
}

// `value` is a URL, or an object with one; of a video also an object with `data` in base64.
Status parse_source(const Json& value, const std::string& path, MediaPart& media) {
  const Json* url = &value;
  media.param = path;
  if (value.is(Kind::kObject)) {
    if (media.kind == PartKind::kImage) {
      if (Status status = parse_detail(value, path, media); !status) return status;
    }
    const char* member = "url";
    media.is_bare_base64 = media.kind == PartKind::kVideo && value.find_set("url") == nullptr &&
                           value.find_set("data") != nullptr;
    if (media.is_bare_base64) member = "data";
    media.param = fmt::format("{}.{}", path, member);
    url = value.find_set(member);
    if (url == nullptr) return base::invalid_argument(media.param, media.param + " is missing.");
  }
  if (!url->is(Kind::kString)) return wrong_type(media.param, "a string", *url);
  media.url = url->text;
  return Status::ok();
}

// The object `name` of `body`, whose members may only be `members`; nullptr if absent.
base::Expected<const Json*> find_options(const Json& body, const std::string& path,
                                         std::string_view name,
                                         std::initializer_list<std::string_view> members) {
  const Json* value = body.find_set(name);
  if (value == nullptr) return value;
  if (!value->is(Kind::kObject)) return wrong_type(path, "an object", *value);
  for (const Json& member : value->children) {
    if (std::find(members.begin(), members.end(), member.key) != members.end()) continue;
    return base::invalid_argument(
        path, fmt::format("{} may have {} only.", path, fmt::join(members, " and ")));
  }
  return value;
}

Status parse_processor_options(const Json& body, MediaRequest& media) {
  const std::string path = "mm_processor_kwargs";
  const auto options = find_options(body, path, path, {"max_soft_tokens"});
  if (!options) return options.error();
  const Json* budget = *options == nullptr ? nullptr : (*options)->find_set("max_soft_tokens");
  if (budget == nullptr) return Status::ok();
  const bool is_legal = budget->is_integer && budget->integer > 0 &&
                        budget->integer <= UINT32_MAX &&
                        media::is_soft_token_budget(static_cast<uint32_t>(budget->integer));
  if (!is_legal) {
    return base::invalid_argument(path + ".max_soft_tokens",
                                  fmt::format("{}.max_soft_tokens must be one of {}.", path,
                                              fmt::join(media::kSoftTokenBudgets, ", ")));
  }
  media.image_budget = static_cast<uint32_t>(budget->integer);
  return Status::ok();
}

Status parse_video_options(const Json& body, const media::VideoLimits& limits,
                           media::VideoSampling& video) {
  const auto groups = find_options(body, "media_io_kwargs", "media_io_kwargs", {"video", "image"});
  if (!groups) return groups.error();
  if (*groups == nullptr) return Status::ok();
  const std::string path = "media_io_kwargs.video";
  const auto options = find_options(**groups, path, "video", {"num_frames", "fps"});
  if (!options) return options.error();
  if (*options == nullptr) return Status::ok();
  if (const Json* num_frames = (*options)->find_set("num_frames")) {
    const bool is_all = num_frames->is_integer && num_frames->integer == -1;  // as many as allowed
    if (!is_all && (!num_frames->is_integer || num_frames->integer < 1 ||
                    num_frames->integer > limits.max_frames)) {
      return base::invalid_argument(
          path + ".num_frames",
          fmt::format("{}.num_frames must be -1 or 1 to {}.", path, limits.max_frames));
    }
    video.num_frames = is_all ? limits.max_frames : static_cast<uint32_t>(num_frames->integer);
  }
  if (const Json* fps = (*options)->find_set("fps")) {
    constexpr double kLeastFps = 0.001, kMostFps = 1'000;
    if (!fps->is(Kind::kNumber) || fps->number < kLeastFps || fps->number > kMostFps) {
      return base::invalid_argument(
          path + ".fps", fmt::format("{}.fps must be {} to {}.", path, kLeastFps, kMostFps));
    }
    video.fps = fps->number;
  }
  return Status::ok();
}

Status check_count(const MediaRequest& media, PartKind kind, uint32_t limit, const char* name) {
  uint32_t count = 0;
  for (const MediaPart& part : media.parts) {
    if (part.kind != kind || ++count <= limit) continue;
    return base::invalid_argument(
        part.param, fmt::format("At most {} {} are allowed in one request.", limit, name));
  }
  return Status::ok();
}

}  // namespace

bool is_media_type(std::string_view type) {
  return find_type(type) != nullptr ||
         std::find(std::begin(kNotServed), std::end(kNotServed), type) != std::end(kNotServed);
}

base::Expected<MediaPart> parse_media_part(const Json& part, const std::string& path) {
  const Json* name = part.find("type");
  const MediaType* const type = find_type(name->text);
  if (type == nullptr) {
    return Error{ErrorCode::kNotImplemented,
                 fmt::format("Content of type {} is not supported: the model reads text, pictures "
                             "and videos without sound.",
                             name->text),
                 path,
                 {}};
  }
  MediaPart media;
  media.kind = type->kind;
  if (media.kind == PartKind::kImage) {
    if (Status status = parse_detail(part, path, media); !status) return status.error();
  }
  std::string_view member = type->member;
  const Json* value = part.find_set(member);
  if (value == nullptr && part.find_set("url") != nullptr) {
    member = "url";
    value = part.find_set(member);
  }
  const std::string param = fmt::format("{}.{}", path, member);
  if (value == nullptr) return base::invalid_argument(param, param + " is missing.");
  if (Status status = parse_source(*value, param, media); !status) return status.error();
  return media;
}

Status finish_media_request(const Json& body, const media::MediaOptions& options,
                            MediaRequest& media) {
  media.image_budget = options.default_image_budget;
  if (Status status = parse_processor_options(body, media); !status) return status;
  if (Status status = parse_video_options(body, options.video, media.video); !status) return status;
  Status status = check_count(media, PartKind::kImage, options.max_images_per_prompt, "pictures");
  if (!status) return status;
  return check_count(media, PartKind::kVideo, options.max_videos_per_prompt, "videos");
}

}  // namespace beryl::api
