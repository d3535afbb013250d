// Damaged frames of every kind: whatever the bytes are, parser and validators answer and nothing
// else happens. Useful mainly under the sanitizers. Seeds are fixed, so a failure repeats.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "parallel/wire/framing.h"
#include "parallel/wire/handshake.h"
#include "parallel/wire/validate_bulk.h"
#include "tests/parallel/wire/sample_messages.h"

namespace beryl::wire {
namespace {

std::vector<std::string> sample_bodies() {
  const Secret secret = *Secret::from_text("a secret of the test cluster");
  const WorkerHandshake worker(secret);
  CoordinatorHandshake coordinator(secret);
  std::vector<Frame> frames(4);
  *frames[0].mutable_registration() = sample_registration();
  *frames[1].mutable_plan() = sample_plan();
  *frames[2].mutable_result() = sample_result();
  frames[3].mutable_welcome()->set_epoch(3);
  frames.push_back(worker.hello());
  BulkRegistration bulk;
  bulk.set_launch_id("launch-1");
  *frames.emplace_back().mutable_bulk_registration() = bulk;
  Picture& picture = *frames.emplace_back().mutable_picture();
  picture.set_epoch(sample_limits().epoch);
  picture.set_height(48);
  picture.set_width(48);
  picture.set_pixels(std::string(48 * 48 * 3, 'x'));
  frames.push_back(*coordinator.on_hello(worker.hello()));
  std::vector<std::string> bodies;
  for (const Frame& frame : frames) bodies.push_back(frame.SerializeAsString());
  return bodies;
}

void mutate(std::string& body, std::mt19937_64& random) {
  const size_t num_edits = 1 + random() % 4;
  for (size_t i = 0; i < num_edits && !body.empty(); ++i) {
    const size_t at = random() % body.size();
    switch (random() % 5) {
      case 0:
        body[at] = static_cast<char>(random());
        break;
      case 1:
        body[at] = static_cast<char>(body[at] ^ (1 << (random() % 8)));
        break;
      case 2:
        body.insert(at, 1, static_cast<char>(random()));
        break;
      case 3:
        body.erase(at, 1 + random() % 8);
        break;
      default:
        body.insert(at, body.substr(random() % body.size(), random() % 16));
        break;
    }
  }
}

// What both receivers do with a frame. Returns whether it was accepted.
bool receive(const std::string& body, CoordinatorHandshake& coordinator,
             const WorkerHandshake& worker) {
  const auto frame = decode_frame(body);
  if (!frame) return false;
  (void)coordinator.on_hello(*frame);
  (void)coordinator.on_registration(*frame);
  (void)coordinator.on_bulk_registration(*frame);
  (void)worker.on_challenge(*frame, sample_registration());
  if (frame->has_registration()) return validate(frame->registration()).is_ok();
  if (frame->has_plan()) return validate(frame->plan(), sample_limits(), 0).is_ok();
  if (frame->has_result()) return validate(frame->result(), sample_limits()).is_ok();
  if (frame->has_bulk_registration()) return validate(frame->bulk_registration()).is_ok();
  if (frame->has_picture()) return validate(frame->picture(), sample_limits()).is_ok();
  if (frame->has_welcome()) return validate(frame->welcome()).is_ok();
  return true;
}

TEST(WireMutationTest, DamagedFramesNeverDoMoreThanFail) {
  const Secret secret = *Secret::from_text("a secret of the test cluster");
  const WorkerHandshake worker(secret);
  CoordinatorHandshake coordinator(secret);
  const std::vector<std::string> bodies = sample_bodies();
  std::mt19937_64 random(20'260'101);
  size_t num_accepted = 0;
  constexpr size_t kRuns = 200'000;
  for (size_t run = 0; run < kRuns; ++run) {
    std::string body = bodies[random() % bodies.size()];
    mutate(body, random);
    if (receive(body, coordinator, worker)) ++num_accepted;
  }
  // Some damage is harmless (a name, a float); most must be refused.
  EXPECT_GT(num_accepted, 0U);
  EXPECT_LT(num_accepted, kRuns * 3 / 4);
}

}  // namespace
}  // namespace beryl::wire
