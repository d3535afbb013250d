// A whole file, mapped for reading.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace beryl::weights {

class MappedFile {
 public:
  // Throws LoadError.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;

  std::span<const std::byte> bytes() const { return {data_, num_bytes_}; }

  // Copies from `offset` on, past the mapping: what is read once needs no page tables of its own,
  // which for a whole checkpoint take seconds to fill and to drop. False: a read error, or a file
  // that has shrunk. Any thread.
  bool read(size_t offset, std::byte* to, size_t num_bytes) const noexcept;

 private:
  int fd_ = -1;
  const std::byte* data_ = nullptr;
  size_t num_bytes_ = 0;
};

// Brings [data, data + num_bytes) of a mapping into memory. A file that has shrunk since it was
// opened gives false here, not a signal later.
bool populate(const std::byte* data, size_t num_bytes) noexcept;

}  // namespace beryl::weights
