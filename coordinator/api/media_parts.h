// The pictures and videos of a chat request, as they are given.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/api/json.h"
#include "coordinator/media/media_loader.h"
#include "coordinator/text/chat_format.h"
#include "parallel/base/expected.h"

namespace beryl::api {

struct MediaPart {
  text::PartKind kind = text::PartKind::kImage;
  size_t message_idx = 0;
  size_t part_idx = 0;             // in ChatMessage::parts
  std::string_view url;            // points into the document
  bool is_bare_base64 = false;     // `url` is what would follow a data: URI's comma
  std::string param;               // messages[0].content[1].image_url.url
  std::optional<uint32_t> budget;  // soft tokens, where `detail` asks for a certain number
};

struct MediaRequest {
  std::vector<MediaPart> parts;  // in order
  uint32_t image_budget = 0;     // where a part does not say
  media::VideoSampling video;
};

// Whether a content part of this type is no text.
bool is_media_type(std::string_view type);

// `part` is an object with a type for which is_media_type() holds, at `path`. The indices are left
// to the caller. kNotImplemented for audio and files.
base::Expected<MediaPart> parse_media_part(const Json& part, const std::string& path);

// Reads mm_processor_kwargs and media_io_kwargs, and checks how many media there are.
base::Status finish_media_request(const Json& body, const media::MediaOptions& options,
                                  MediaRequest& media);

}  // namespace beryl::api
