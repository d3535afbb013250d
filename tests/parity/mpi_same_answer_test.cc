// The same bits on ranks that are processes: every way of computing a request against one piece on
// one rank. A plain program, because each rank compares what it is home of.
#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "bench/model/local_ranks.h"
#include "bench/model/mpi_ranks.h"
#include "tests/parity/ways.h"

namespace beryl::bench {
namespace {

SubjectModel subject_model() {
  SubjectModel subject{.directory = BERYL_SOURCE_DIR "/tests/data/tiny"};
  for (int i = 0; i < 40; ++i) subject.token_ids.push_back((i * 619 + 3) % 1024);
  return subject;
}

Trace reference_trace(const SubjectModel& subject, const Way& way) {
  Trace trace;
  run_local_ranks(1, [&](comm::Communicator& communicator) {
    trace = compute_traces(subject, {way}, {}, communicator).front();
  });
  return trace;
}

int count_differences() {
  const SubjectModel subject = subject_model();
  const std::vector<Way> ways = all_ways(static_cast<int>(subject.token_ids.size()));
  const Trace expected = reference_trace(subject, ways.front());
  int num_differences = 0;
  run_mpi_rank([&](comm::Communicator& communicator) {
    const std::vector<Trace> traces = compute_traces(subject, ways, {}, communicator);
    for (size_t i = 0; i < ways.size(); ++i) {
      if (ways[i].home_rank % communicator.size() != communicator.rank()) continue;
      const auto difference = first_difference(expected, traces[i]);
      fmt::print("rank {}: {}: {}\n", communicator.rank(), ways[i].name,
                 difference.value_or("same"));
      if (difference) ++num_differences;
    }
  });
  return num_differences;
}

}  // namespace
}  // namespace beryl::bench

int main() {
  try {
    return beryl::bench::count_differences() == 0 ? 0 : 1;
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
