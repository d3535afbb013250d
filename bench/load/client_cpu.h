// CPU time of a load generator itself: where it shares its machine with the server under test, its
// share belongs in the report.
#pragma once

namespace beryl::load {

// User and system time of this process so far, all threads, in seconds.
double client_cpu_seconds();

}  // namespace beryl::load
