// Makes safetensors files, good and bad, in a directory of their own.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace beryl::weights {

class CheckpointFiles {
 public:
  explicit CheckpointFiles(const std::string& name)
      : directory_(std::filesystem::temp_directory_path() /
                   ("beryl_" + name + "_" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(directory_);
  }
  ~CheckpointFiles() {
    std::error_code error;
    std::filesystem::remove_all(directory_, error);
  }
  CheckpointFiles(const CheckpointFiles&) = delete;
  CheckpointFiles& operator=(const CheckpointFiles&) = delete;

  const std::filesystem::path& path() const { return directory_; }

  std::filesystem::path write(const std::string& file, std::string_view bytes) const {
    std::ofstream out(directory_ / file, std::ios::binary);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return directory_ / file;
  }

  std::filesystem::path write_safetensors(const std::string& file, const std::string& header,
                                          size_t data_bytes) const {
    return write(file, safetensors(header, data_bytes));
  }

  // Length, header filled up with spaces to a multiple of `alignment`, then data_bytes bytes
  // counting up.
  static std::string safetensors(std::string header, size_t data_bytes, size_t alignment = 8) {
    header.resize((header.size() + alignment - 1) / alignment * alignment, ' ');
    const uint64_t length = header.size();
    std::string bytes(sizeof(length), '\0');
    std::memcpy(bytes.data(), &length, sizeof(length));
    bytes += header;
    for (size_t i = 0; i < data_bytes; ++i) bytes += static_cast<char>(i);
    return bytes;
  }

 private:
  std::filesystem::path directory_;
};

}  // namespace beryl::weights
