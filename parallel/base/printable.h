// Untrusted text made fit for one line of output: names that come from files or from the network.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace beryl::base {

constexpr size_t kMaxPrintableBytes = 160;

// Control characters and bytes outside ASCII become \xNN; longer text is cut and ends in "...".
std::string printable(std::string_view text);

}  // namespace beryl::base
