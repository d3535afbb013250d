// GroupAssembler: which registrations of one group belong together. Ranks of one launch id form one
// epoch; an id that was used up never returns, so that a rank which was frozen or cut off cannot
// join what came after it. No I/O.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "parallel/base/expected.h"
#include "parallel/wire/cluster.pb.h"

namespace beryl::cluster {

class GroupAssembler {
 public:
  // Launches remembered as over.
  static constexpr size_t kMaxRetired = 1024;

  // kInvalidArgument says why the rank cannot join. Otherwise it waits for the others; a new launch
  // id displaces one that is not complete yet.
  base::Status add(const wire::Registration& registration);
  bool is_complete() const;
  // Of the launch that is complete, which becomes the running one.
  std::string start();

  // The launch being assembled, or running, is over.
  void retire(const std::string& launch_id);

  bool is_waiting(const std::string& launch_id) const {
    return assembling_ && assembling_->launch_id == launch_id;
  }
  bool is_running(const std::string& launch_id) const { return running_ == launch_id; }
  bool is_retired(const std::string& launch_id) const;
  // "waiting for 1 of 2 ranks"
  std::string describe() const;

 private:
  struct Launch {
    std::string launch_id;
    std::map<uint32_t, wire::Registration> ranks;
    uint32_t num_ranks = 0;
  };

  std::optional<Launch> assembling_;
  std::string running_;
  std::deque<std::string> retired_;
};

}  // namespace beryl::cluster
