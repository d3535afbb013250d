#include "coordinator/media/image_preparer.h"

#include <openssl/evp.h>

#include <algorithm>
#include <utility>

#include "coordinator/media/image_decoder.h"
#include "coordinator/media/resize.h"
#include "coordinator/media/target_size.h"
#include "parallel/base/assert.h"

namespace beryl::media {
namespace {

// The numbers go in as little-endian bytes, so that a hash means the same on every machine. Without
// the shape two pictures of equal bytes would be one.
ContentHash hash_content(const PreparedImage& image) {
  std::array<uint8_t, 12> head;
  const std::array<uint32_t, 3> numbers = {kPreprocessingVersion, image.width, image.height};
  for (size_t i = 0; i < head.size(); ++i) {
    head[i] = static_cast<uint8_t>(numbers[i / 4] >> (i % 4 * 8));
  }
  std::array<uint8_t, EVP_MAX_MD_SIZE> digest;
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        &EVP_MD_CTX_free);
  const bool is_hashed =
      context != nullptr && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1 &&
      EVP_DigestUpdate(context.get(), head.data(), head.size()) == 1 &&
      EVP_DigestUpdate(context.get(), image.pixels.data(), image.pixels.size()) == 1 &&
      EVP_DigestFinal_ex(context.get(), digest.data(), nullptr) == 1;
  BERYL_ASSERT(is_hashed, "SHA-256 is not available");
  ContentHash hash;
  std::copy_n(digest.begin(), hash.size(), hash.begin());
  return hash;
}

}  // namespace

base::Expected<PreparedImagePtr> prepare_image(RgbImage image, uint32_t budget) {
  const auto size = target_size({image.width, image.height}, budget);
  if (!size) return size.error();
  return finish_image(resize_bicubic(std::move(image), *size));
}

PreparedImagePtr finish_image(RgbImage resized) {
  auto prepared = std::make_shared<PreparedImage>();
  prepared->width = resized.width;
  prepared->height = resized.height;
  prepared->pixels = std::move(resized.pixels);
  prepared->hash = hash_content(*prepared);
  return prepared;
}

base::Expected<PreparedImagePtr> prepare_image_file(std::string_view bytes, uint32_t budget,
                                                    const ImageLimits& limits) {
  auto image = decode_image(bytes, limits);
  if (!image) return std::move(image).error();
  return prepare_image(std::move(*image), budget);
}

}  // namespace beryl::media
