// The command line of this process, for reports.
#pragma once

#include <string>

namespace beryl::bench {

// Words with spaces or quotes are in single quotes.
std::string command_line();

}  // namespace beryl::bench
