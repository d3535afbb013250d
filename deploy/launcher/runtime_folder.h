// The launcher's private folder for as long as it lives: the secret of the cluster, and what MPI
// would otherwise leave behind in shared memory when a rank is killed.
#pragma once

#include <string>

#include "parallel/base/expected.h"

namespace beryl::launcher {

class RuntimeFolder {
 public:
  // Mode 0700, in memory (/dev/shm) where that is possible, else in the system's temporary folder.
  static base::Expected<RuntimeFolder> create();
  ~RuntimeFolder();  // removes the folder and everything in it
  RuntimeFolder(RuntimeFolder&& other) noexcept : path_(std::move(other.path_)) {
    other.path_.clear();
  }
  RuntimeFolder& operator=(RuntimeFolder&&) = delete;

  const std::string& path() const { return path_; }

  // Writes 32 random bytes as hexadecimal text to a new file of mode 0600 and returns its path: a
  // secret on a command line could be read by every user of the machine.
  base::Expected<std::string> write_secret() const;
  // A folder of its own for one start of a group, and its removal when that job is gone.
  base::Expected<std::string> make_job_folder(const std::string& launch_id) const;
  void remove_job_folder(const std::string& launch_id) const noexcept;

 private:
  explicit RuntimeFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

// 64 random bits as 16 hexadecimal digits.
std::string random_id();

}  // namespace beryl::launcher
