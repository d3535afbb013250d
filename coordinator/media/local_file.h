// file: URLs below one folder that the operator named.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "parallel/base/expected.h"

namespace beryl::media {

// The bytes of a regular file. `allowed_folder` empty: no file may be read. Links are followed
// first, and what they lead to must lie below the folder. Whether a file outside exists is not
// told.
base::Expected<std::string> read_local_file(std::string_view url, const std::string& allowed_folder,
                                            size_t max_bytes);

}  // namespace beryl::media
