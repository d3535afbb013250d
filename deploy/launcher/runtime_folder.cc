#include "deploy/launcher/runtime_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

namespace beryl::launcher {
namespace {

constexpr size_t kSecretBytes = 32;

base::Error failed(const std::string& what) {
  return {base::ErrorCode::kInternal, fmt::format("{}: {}", what, strerror(errno)), {}, {}};
}

std::string random_hex(size_t num_bytes) {
  unsigned char bytes[kSecretBytes] = {};
  BERYL_ASSERT(num_bytes <= sizeof bytes, "{} bytes", num_bytes);
  const ssize_t got = getrandom(bytes, num_bytes, 0);
  BERYL_ASSERT(got == static_cast<ssize_t>(num_bytes), "getrandom: {}", strerror(errno));
  std::string text;
  for (size_t i = 0; i < num_bytes; ++i) text += fmt::format("{:02x}", bytes[i]);
  return text;
}

}  // namespace

std::string random_id() {
  return random_hex(8);
}

base::Expected<RuntimeFolder> RuntimeFolder::create() {
  const char* configured = std::getenv("TMPDIR");
  const std::string temporary = configured != nullptr && *configured != 0 ? configured : "/tmp";
  for (const std::string& base : {std::string("/dev/shm"), temporary}) {
    std::string name = base + "/beryl-XXXXXX";
    if (mkdtemp(name.data()) != nullptr) return RuntimeFolder(name);
  }
  return failed(fmt::format("cannot make a folder in /dev/shm or {}", temporary));
}

RuntimeFolder::~RuntimeFolder() {
  std::error_code error;
  if (!path_.empty()) std::filesystem::remove_all(path_, error);
}

base::Expected<std::string> RuntimeFolder::write_secret() const {
  const std::string path = path_ + "/secret";
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
  if (fd < 0) return failed("cannot create " + path);
  const std::string text = random_hex(kSecretBytes) + "\n";
  const ssize_t written = write(fd, text.data(), text.size());
  close(fd);
  if (written != static_cast<ssize_t>(text.size())) return failed("cannot write " + path);
  return path;
}

base::Expected<std::string> RuntimeFolder::make_job_folder(const std::string& launch_id) const {
  const std::string path = path_ + "/" + launch_id;
  if (mkdir(path.c_str(), S_IRWXU) != 0) return failed("cannot create " + path);
  return path;
}

void RuntimeFolder::remove_job_folder(const std::string& launch_id) const noexcept {
  std::error_code error;
  std::filesystem::remove_all(path_ + "/" + launch_id, error);
}

}  // namespace beryl::launcher
