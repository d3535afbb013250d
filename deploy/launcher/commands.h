// The command lines of the processes that the launcher starts.
#pragma once

#include <string>

#include "deploy/launcher/options.h"
#include "deploy/launcher/process.h"

namespace beryl::launcher {

// Keys of clients, separated by commas; read by the coordinator.
constexpr const char* kApiKeyVariable = "BERYL_API_KEY";

// Where the programs are and what this machine can do; found once, at start.
struct Programs {
  std::string launcher;     // this program
  std::string coordinator;  // beside it
  std::string worker;
  std::string mpirun;  // empty: none is installed
};
// Fails if one of our programs is missing, or MPI is needed (several ranks) and is not there.
base::Expected<Programs> find_programs(const ServeOptions& options);

// The first served model name, or else the folder's name.
std::string model_name(const ServeOptions& options);

Command coordinator_command(const ServeOptions& options, const Programs& programs,
                            const std::string& secret_file);

struct Job {
  uint32_t group = 0;
  std::string launch_id;
  std::string coordinator;  // "127.0.0.1:1234"
  std::string secret_file;
  std::string folder;  // for the shared memory of its MPI
};
// mpirun with one process a rank; the worker alone where there is one rank and no MPI.
Command job_command(const ServeOptions& options, const Programs& programs, const Job& job);

// The worker that prints the memory plan of a rank, for --dry-run.
Command dry_run_command(const ServeOptions& options, const Programs& programs);

}  // namespace beryl::launcher
