#include "coordinator/media/local_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <memory>

#include "coordinator/media/data_uri.h"

namespace beryl::media {
namespace {

constexpr std::string_view kScheme = "file://";
constexpr std::string_view kLocalHost = "localhost";

base::Error not_readable() {
  return base::invalid_argument({}, "The file: URL names no file that may be read here.");
}

// With all links followed; empty if there is no such file.
std::string resolve(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> real(realpath(path.c_str(), nullptr),
                                                         &std::free);
  return real == nullptr ? std::string() : std::string(real.get());
}

class File {
 public:
  explicit File(const std::string& path)
      : descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)) {}
  ~File() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  // Bytes of a regular file, -1 for anything else.
  int64_t size() const {
    struct stat status = {};
    if (descriptor_ < 0 || fstat(descriptor_, &status) != 0) return -1;
    return S_ISREG(status.st_mode) ? status.st_size : -1;
  }

  bool read_all(std::string& bytes) const {
    for (size_t done = 0; done < bytes.size();) {
      const ssize_t got = read(descriptor_, bytes.data() + done, bytes.size() - done);
      if (got <= 0) return false;
      done += static_cast<size_t>(got);
    }
    return true;
  }

 private:
  int descriptor_;
};

}  // namespace

base::Expected<std::string> read_local_file(std::string_view url, const std::string& allowed_folder,
                                            size_t max_bytes) {
  if (allowed_folder.empty()) {
    return base::invalid_argument({}, "file: URLs are not allowed here.");
  }
  if (!url.starts_with(kScheme)) return not_readable();
  url.remove_prefix(kScheme.size());
  if (url.starts_with(kLocalHost)) url.remove_prefix(kLocalHost.size());
  const auto path = percent_decode(url);
  if (!path) return path.error();
  if (!path->starts_with('/') || path->find('\0') != std::string::npos) return not_readable();
  const std::string folder = resolve(allowed_folder);
  const std::string real = resolve(*path);
  if (folder.empty() || !real.starts_with(folder == "/" ? folder : folder + "/")) {
    return not_readable();
  }
  const File file(real);
  const int64_t size = file.size();
  if (size < 0) return not_readable();
  if (static_cast<uint64_t>(size) > max_bytes) {
    return base::invalid_argument(
        {}, fmt::format("The file has {} bytes; at most {} are allowed.", size, max_bytes));
  }
  std::string bytes(static_cast<size_t>(size), '\0');
  if (!file.read_all(bytes)) return not_readable();
  return bytes;
}

}  // namespace beryl::media
