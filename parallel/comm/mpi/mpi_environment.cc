#include "parallel/comm/mpi/mpi_environment.h"

#include <mpi.h>

namespace beryl::comm {

base::Expected<std::unique_ptr<MpiEnvironment>> MpiEnvironment::create(int* argc, char*** argv) {
  int initialized = 0;
  MPI_Initialized(&initialized);
  if (initialized != 0) {
    return base::Error{base::ErrorCode::kInternal, "MPI is initialised already", {}, {}};
  }
  int provided = MPI_THREAD_SINGLE;
  if (MPI_Init_thread(argc, argv, MPI_THREAD_SERIALIZED, &provided) != MPI_SUCCESS ||
      provided < MPI_THREAD_SERIALIZED) {
    return base::Error{
        base::ErrorCode::kUnavailable, "MPI cannot be used from another thread than main", {}, {}};
  }
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  std::unique_ptr<MpiEnvironment> environment(new MpiEnvironment);
  MPI_Comm_rank(MPI_COMM_WORLD, &environment->rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &environment->size_);
  return environment;
}

MpiEnvironment::~MpiEnvironment() {
  if (finalize_) MPI_Finalize();
}

}  // namespace beryl::comm
