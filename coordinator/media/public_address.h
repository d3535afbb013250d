// Which network addresses a server may connect to on behalf of strangers.
#pragma once

struct sockaddr;

namespace beryl::media {

// True for addresses of the public internet. False for this machine, private networks, link-local,
// shared (100.64/10), multicast, reserved and documentation ranges, and for every form of IPv6 that
// carries an IPv4 address or leads elsewhere (mapped, NAT64, 6to4, Teredo); of IPv6 only 2000::/3
// is public at all.
bool is_public_address(const sockaddr& address);

}  // namespace beryl::media
