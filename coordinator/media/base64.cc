#include "coordinator/media/base64.h"

#include <array>
#include <cstdint>

namespace beryl::media {
namespace {

constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr uint32_t kInvalid = 0xff000000;  // in a sum of four values its bits survive

constexpr std::array<uint32_t, 256> make_values() {
  std::array<uint32_t, 256> values = {};
  values.fill(kInvalid);
  for (uint32_t i = 0; i < kAlphabet.size(); ++i) values[static_cast<uint8_t>(kAlphabet[i])] = i;
  return values;
}
constexpr std::array<uint32_t, 256> kValues = make_values();

uint32_t value_of(char digit) {
  return kValues[static_cast<uint8_t>(digit)];
}

// Four digits to 24 bits; kInvalid bits are set if one is none.
uint32_t group_of(const char* digits) {
  return value_of(digits[0]) << 18U | value_of(digits[1]) << 12U | value_of(digits[2]) << 6U |
         value_of(digits[3]) | (value_of(digits[0]) & kInvalid) | (value_of(digits[1]) & kInvalid) |
         (value_of(digits[2]) & kInvalid);
}

void append_bytes(uint32_t group, size_t num_bytes, std::string& out) {
  for (size_t i = 0; i < num_bytes; ++i) out += static_cast<char>(group >> (16 - 8 * i));
}

}  // namespace

std::optional<std::string> decode_base64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  if (text.empty()) return std::string();
  const size_t num_padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  const size_t num_full_groups = text.size() / 4 - (num_padding > 0 ? 1 : 0);
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  for (size_t i = 0; i < num_full_groups; ++i) {
    const uint32_t group = group_of(text.data() + i * 4);
    if ((group & kInvalid) != 0) return std::nullopt;
    append_bytes(group, 3, bytes);
  }
  if (num_padding == 0) return bytes;
  std::array<char, 4> last = {'A', 'A', 'A', 'A'};
  text.substr(num_full_groups * 4, 4 - num_padding).copy(last.data(), last.size());
  const uint32_t group = group_of(last.data());
  const uint32_t stray_bits = num_padding == 2 ? 0xffff : 0xff;
  if ((group & (kInvalid | stray_bits)) != 0) return std::nullopt;
  append_bytes(group, 3 - num_padding, bytes);
  return bytes;
}

}  // namespace beryl::media
