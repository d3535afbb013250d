// `beryl tied-exec PROGRAM ARGUMENT...` (internal) becomes PROGRAM, which is killed when the
// process that started it dies. mpirun starts each rank through it: a rank that is stopped or busy
// does not notice a killed mpirun by itself, and would live on.
#pragma once

namespace beryl::launcher {

constexpr const char* kTiedExec = "tied-exec";

// `argv` begins with PROGRAM and ends with a null. Returns the exit code if it cannot become it.
int tied_exec(char** argv);

}  // namespace beryl::launcher
