// MockPictures: the second connection of a mock worker and the features it pretends to keep.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <utility>

#include "parallel/wire/connection.h"
#include "parallel/wire/secret.h"
#include "parallel/wire/validate.h"

namespace beryl::wire {

class MockPictures {
 public:
  // Dials and registers; a refusal comes with a later poll().
  base::Status open(const Endpoint& coordinator, const Secret& secret,
                    const BulkRegistration& registration, const GroupLimits& limits);
  bool is_open() const { return connection_.has_value(); }
  void close() { connection_.reset(); }

  // Takes what has arrived. An error: refused, closed, or a picture that is none.
  base::Status poll();
  // Executes the drops and jobs of a plan on this rank, waiting for the pictures it encodes. An
  // error where they contradict what is kept.
  base::Status execute(const StepPlan& plan, uint32_t rank);

  uint64_t num_pictures() const { return num_pictures_; }  // that came

 private:
  using Key = std::pair<uint64_t, uint64_t>;
  static Key key_of(const PictureKey& key) { return {key.high(), key.low()}; }
  base::Status take_picture(Connection::Milliseconds deadline);
  base::Status wait_for(const Key& key);

  std::optional<Connection> connection_;
  GroupLimits limits_;
  std::set<Key> arrived_;
  std::set<Key> kept_;
  uint64_t num_pictures_ = 0;
};

}  // namespace beryl::wire
