// MPI of this process: initialised while the object lives. At most one at a time, in main.
#pragma once

#include <memory>

#include "parallel/base/expected.h"

namespace beryl::comm {

class MpiEnvironment {
 public:
  // Fails where MPI is in use already, or lets no other thread than main call it.
  static base::Expected<std::unique_ptr<MpiEnvironment>> create(int* argc, char*** argv);
  ~MpiEnvironment();
  MpiEnvironment(const MpiEnvironment&) = delete;
  MpiEnvironment& operator=(const MpiEnvironment&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }

  // The destructor leaves MPI_Finalize out, which waits for all peers: for use after one was lost.
  // The launcher then ends the other ranks.
  void abandon() noexcept { finalize_ = false; }

 private:
  MpiEnvironment() = default;

  int rank_ = 0;
  int size_ = 1;
  bool finalize_ = true;
};

}  // namespace beryl::comm
