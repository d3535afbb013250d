#include "worker/weights/mapped_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "worker/weights/load_error.h"

namespace beryl::weights {

namespace {

class FileDescriptor {
 public:
  explicit FileDescriptor(const std::filesystem::path& path)
      : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) {
  FileDescriptor fd(path);
  struct stat status = {};
  if (fd.get() < 0 || ::fstat(fd.get(), &status) != 0) {
    throw LoadError(fmt::format("{}: expected a readable file, found: {}", path.string(),
                                std::strerror(errno)));
  }
  if (!S_ISREG(status.st_mode)) {
    throw LoadError(
        fmt::format("{}: expected a regular file, found something else", path.string()));
  }
  num_bytes_ = static_cast<size_t>(status.st_size);
  if (num_bytes_ == 0) return;
  void* memory = ::mmap(nullptr, num_bytes_, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (memory == MAP_FAILED) {
    throw LoadError(fmt::format("{}: expected to map {} bytes, found: {}", path.string(),
                                num_bytes_, std::strerror(errno)));
  }
  data_ = static_cast<const std::byte*>(memory);
  fd_ = fd.release();
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), num_bytes_);
  if (fd_ >= 0) ::close(fd_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      data_(std::exchange(other.data_, nullptr)),
      num_bytes_(std::exchange(other.num_bytes_, 0)) {}

bool MappedFile::read(size_t offset, std::byte* to, size_t num_bytes) const noexcept {
  for (size_t done = 0; done < num_bytes;) {
    const ssize_t count =
        ::pread(fd_, to + done, num_bytes - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    done += static_cast<size_t>(count);
  }
  return true;
}

bool populate(const std::byte* data, size_t num_bytes) noexcept {
  if (num_bytes == 0) return true;
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const uintptr_t begin = reinterpret_cast<uintptr_t>(data) / page * page;
  const uintptr_t end = reinterpret_cast<uintptr_t>(data) + num_bytes;
  void* const start = reinterpret_cast<void*>(begin);
  ::madvise(start, end - begin, MADV_WILLNEED);
#ifdef MADV_POPULATE_READ
  if (::madvise(start, end - begin, MADV_POPULATE_READ) == 0) return true;
  if (errno != EINVAL) return false;
#endif
  // Kernels before 5.14 cannot populate on request: touch one byte a page.
  const volatile char* bytes = static_cast<const volatile char*>(start);
  for (size_t at = 0; at < end - begin; at += page) (void)bytes[at];
  return true;
}

}  // namespace beryl::weights
