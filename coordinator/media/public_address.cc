#include "coordinator/media/public_address.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

namespace beryl::media {
namespace {

struct Ipv4Range {
  std::array<uint8_t, 4> prefix;
  int num_bits;
};

// The special-purpose registry of IANA (RFC 6890 and its updates).
constexpr Ipv4Range kNotPublicIpv4[] = {
    {{0, 0, 0, 0}, 8},      {{10, 0, 0, 0}, 8},     {{100, 64, 0, 0}, 10}, {{127, 0, 0, 0}, 8},
    {{169, 254, 0, 0}, 16}, {{172, 16, 0, 0}, 12},  {{192, 0, 0, 0}, 24},  {{192, 0, 2, 0}, 24},
    {{192, 88, 99, 0}, 24}, {{192, 168, 0, 0}, 16}, {{198, 18, 0, 0}, 15}, {{198, 51, 100, 0}, 24},
    {{203, 0, 113, 0}, 24}, {{224, 0, 0, 0}, 3},
};

struct Ipv6Range {
  std::array<uint8_t, 4> prefix;  // the rest is zero
  int num_bits;
};

constexpr Ipv6Range kPublicIpv6 = {{0x20, 0, 0, 0}, 3};
constexpr Ipv6Range kNotPublicIpv6[] = {
    {{0x20, 0x01, 0x00, 0x00}, 23},  // protocol assignments, Teredo among them
    {{0x20, 0x01, 0x0d, 0xb8}, 32},  // documentation
    {{0x20, 0x02, 0x00, 0x00}, 16},  // 6to4
    {{0x3f, 0xff, 0x00, 0x00}, 20},  // documentation
};

uint32_t as_number(const std::array<uint8_t, 4>& bytes) {
  return uint32_t{bytes[0]} << 24U | uint32_t{bytes[1]} << 16U | uint32_t{bytes[2]} << 8U |
         bytes[3];
}

// `address`: the first four bytes.
template <typename Range>
bool is_in(uint32_t address, const Range& range) {
  return (address ^ as_number(range.prefix)) >> (32 - range.num_bits) == 0;
}

template <typename Range, size_t size>
bool is_in_any(uint32_t address, const Range (&ranges)[size]) {
  return std::any_of(std::begin(ranges), std::end(ranges),
                     [address](const Range& range) { return is_in(address, range); });
}

}  // namespace

bool is_public_address(const sockaddr& address) {
  std::array<uint8_t, 4> first = {};
  if (address.sa_family == AF_INET) {
    sockaddr_in ipv4 = {};
    std::memcpy(&ipv4, &address, sizeof(ipv4));
    std::memcpy(first.data(), &ipv4.sin_addr, first.size());
    return !is_in_any(as_number(first), kNotPublicIpv4);
  }
  if (address.sa_family != AF_INET6) return false;
  sockaddr_in6 ipv6 = {};
  std::memcpy(&ipv6, &address, sizeof(ipv6));
  std::memcpy(first.data(), &ipv6.sin6_addr, first.size());
  return is_in(as_number(first), kPublicIpv6) && !is_in_any(as_number(first), kNotPublicIpv6);
}

}  // namespace beryl::media
