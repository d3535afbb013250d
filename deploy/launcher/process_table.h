// Finds processes by a mark in their environment. A job's ranks are children of mpirun in process
// groups of their own; when mpirun is killed they can outlive it, and their numbers are known to
// nobody. The mark is inherited by all of them.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace beryl::launcher {

// Set for every process of one start of a group; the value is unique.
constexpr const char* kLaunchVariable = "BERYL_LAUNCH_ID";

// Living processes (zombies are not) that were started with `variable`=`value`.
std::vector<pid_t> find_marked_processes(const std::string& variable, const std::string& value);

// SIGKILL for all of them, repeated until none is left or kSweepRounds are over (a process may fork
// while it is looked for). Returns how many were found.
constexpr int kSweepRounds = 5;
int kill_marked_processes(const std::string& variable, const std::string& value);

}  // namespace beryl::launcher
