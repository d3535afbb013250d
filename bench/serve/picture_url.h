// Pictures to send: coloured squares of a seed as JPEG.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace beryl::load {

// "data:image/jpeg;base64,…"; different pictures for different seeds.
std::string picture_url(int width, int height, uint64_t seed);

std::string base64(std::string_view bytes);

}  // namespace beryl::load
