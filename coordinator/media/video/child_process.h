// A process that gets one file as standard input and is read from through a pipe. It inherits
// nothing else: no descriptor, no environment, no blocked signal.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <string_view>

#include "coordinator/media/stop_condition.h"

namespace beryl::media {

class ChildProcess {
 public:
  enum class ReadResult { kDone, kEnded, kOver };

  // `input` in pieces, one after the other. Check is_started().
  ChildProcess(const std::string& program, std::initializer_list<std::string_view> input);
  ~ChildProcess();  // kills it where it still runs, and waits for its end
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  bool is_started() const noexcept { return pid_ > 0; }
  // Exactly `num_bytes`. kEnded: it ended before. kOver: `stop` said so.
  ReadResult read(void* to, size_t num_bytes, const StopCondition& stop);
  // Kills it where it still runs. "exit code 3", "signal 9".
  std::string end();

 private:
  pid_t pid_ = -1;
  int output_ = -1;  // the end of the pipe that is read
};

}  // namespace beryl::media
