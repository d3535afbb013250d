// Requests with pictures, and registrations that take them.
#pragma once

#include <memory>
#include <vector>

#include "coordinator/cluster/engine.h"
#include "parallel/wire/cluster.pb.h"

namespace beryl::cluster {

// Soft tokens in one row; pictures of different content have different keys.
inline std::shared_ptr<const media::PreparedImage> test_image(uint32_t num_tokens,
                                                              uint8_t content) {
  media::PreparedImage image;
  image.height = media::kCellSize;
  image.width = media::kCellSize * num_tokens;
  image.pixels.assign(size_t{3} * image.height * image.width, content);
  for (size_t i = 0; i < image.pixels.size(); i += 7)
    image.pixels[i] = static_cast<uint8_t>(i * content);
  image.hash.fill(content);
  image.hash[0] = static_cast<uint8_t>(num_tokens);
  return std::make_shared<const media::PreparedImage>(std::move(image));
}

// Puts the picture behind what the prompt has so far.
inline void append_picture(GenerationRequest& request,
                           const std::shared_ptr<const media::PreparedImage>& image,
                           int32_t placeholder) {
  request.media.push_back({image, request.prompt_token_ids.size()});
  request.prompt_token_ids.insert(request.prompt_token_ids.end(), image->num_soft_tokens(),
                                  placeholder);
}

inline void take_pictures(wire::Registration& registration) {
  registration.mutable_cache()->set_num_feature_tokens(64);
  registration.mutable_cache()->set_max_picture_patches(900);
}

}  // namespace beryl::cluster
