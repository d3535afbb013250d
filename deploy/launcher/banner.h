// What people see when the server is ready.
#pragma once

#include <cstdint>
#include <string>

namespace beryl::launcher {

// "http://127.0.0.1:8000"; an address that means every interface becomes one that can be dialled.
std::string url(const std::string& host, uint16_t port);

std::string ready_banner(const std::string& url, const std::string& model, bool needs_key);

}  // namespace beryl::launcher
