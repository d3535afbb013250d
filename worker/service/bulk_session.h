// BulkSession: a rank's second connection, over which pictures come. Its own thread receives them
// into the picture store, which may hold it back; the first connection never waits for it.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <thread>

#include "parallel/base/expected.h"
#include "parallel/wire/connection.h"
#include "parallel/wire/secret.h"
#include "parallel/wire/validate.h"
#include "worker/engine/picture_store.h"
#include "worker/service/session.h"

namespace beryl::service {

class BulkSession {
 public:
  // Where and as whom it registers.
  struct Registration {
    wire::Endpoint coordinator;
    wire::BulkRegistration who;  // `proof` is filled in
    wire::GroupLimits limits;    // of this epoch
  };

  // Called once, from the receiving thread, with why nothing more will come.
  using OnEnd = std::function<void(const SessionEnd&)>;

  // Dials and proves the secret. `store` must outlive it.
  static base::Expected<std::unique_ptr<BulkSession>> open(const Registration& registration,
                                                           const wire::Secret& secret,
                                                           engine::PictureStore& store,
                                                           OnEnd on_end);
  // Closes the store too.
  ~BulkSession();
  BulkSession(const BulkSession&) = delete;
  BulkSession& operator=(const BulkSession&) = delete;

 private:
  BulkSession(wire::Connection connection, const wire::GroupLimits& limits,
              engine::PictureStore& store, OnEnd on_end);
  SessionEnd receive_all();
  base::Status take(wire::Frame frame);

  wire::Connection connection_;
  const wire::GroupLimits limits_;
  engine::PictureStore& store_;
  OnEnd on_end_;
  std::atomic<bool> leaving_{false};
  std::thread reader_;
};

}  // namespace beryl::service
