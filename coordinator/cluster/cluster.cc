#include "coordinator/cluster/cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "coordinator/cluster/prompt_pictures.h"

namespace beryl::cluster {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;

constexpr milliseconds kDrainPoll{20};
constexpr milliseconds kAbortDeadline{500};  // for telling clients that their requests ended
constexpr double kLeastRetryAfter_s = 1;
constexpr double kMostRetryAfter_s = 60;

base::Error unavailable(std::string message) {
  return base::Error{base::ErrorCode::kUnavailable, std::move(message), {}, {}};
}

int64_t to_us(std::chrono::steady_clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
}

// Out of the context that accepted it.
base::Expected<ReleasedSocket> release(asio::ip::tcp::socket& socket) {
  boost::system::error_code error;
  const auto protocol = socket.local_endpoint(error).protocol();
  const int descriptor = error ? -1 : socket.release(error);
  if (error) return unavailable(error.message());
  return ReleasedSocket{protocol, descriptor};
}

scheduler::NewRequest to_scheduler(const GenerationRequest& request, scheduler::RequestId id) {
  scheduler::NewRequest out;
  out.id = id;
  out.prompt_token_ids = request.prompt_token_ids;
  out.pictures = to_spans(request.media);
  out.sampling = request.sampling;
  out.max_tokens = request.max_tokens;
  out.stop_token_ids = request.stop_token_ids;
  out.deadline_us = std::max<int64_t>(0, to_us(request.deadline));
  out.priority = request.priority;
  return out;
}

}  // namespace

Cluster::Cluster(const ClusterOptions& options, const ClusterParts& parts)
    : options_(options), parts_(parts), work_(asio::make_work_guard(io_)) {
  registrar_ = std::make_unique<Registrar>(
      io_, options_, parts_.secret, parts_.log,
      [this](asio::ip::tcp::socket& socket, Registrar::AnyRegistration registration) {
        if (auto* bulk = std::get_if<wire::BulkRegistration>(&registration)) {
          return on_bulk(socket, std::move(*bulk));
        }
        return on_worker(socket, std::move(std::get<wire::Registration>(registration)));
      });
  thread_ = std::thread([this] { io_.run(); });
}

Cluster::~Cluster() {
  shut_down();
}

void Cluster::shut_down() {
  draining_.store(true);
  if (!thread_.joinable()) return;
  io_.stop();
  thread_.join();
  // No new drivers from here on. Their threads may still look at each other while they end.
  for (const auto& [group, driver] : groups_) driver->shut_down("the coordinator ends");
}

base::Expected<scheduler::RequestId> Cluster::submit(GenerationRequest request, EventSink sink) {
  if (draining_.load()) return unavailable("the server is shutting down");
  const std::shared_lock lock(groups_mutex_);
  const std::vector<GroupDriver*> drivers = candidates();
  if (drivers.empty()) return unavailable("no group of workers is ready yet");
  {
    const std::lock_guard model_lock(model_mutex_);
    if (auto fits = check_pictures(request.media, cache_); !fits) return fits.error();
  }
  const scheduler::RequestId id = last_request_.fetch_add(1) + 1;
  RequestLedger::Entry entry;
  entry.sink = std::make_shared<const EventSink>(std::move(sink));
  entry.submitted = std::chrono::steady_clock::now();
  entry.num_prompt_tokens = static_cast<uint32_t>(request.prompt_token_ids.size());
  entry.pictures = request.media;
  base::Status status;
  for (GroupDriver* driver : drivers) {
    status = driver->submit(to_scheduler(request, id), entry);
    if (status) return id;
  }
  return status.error();
}

void Cluster::cancel(scheduler::RequestId request) {
  const std::shared_lock lock(groups_mutex_);
  for (const auto& [group, driver] : groups_) {
    if (driver->cancel(request)) return;
  }
}

base::Expected<ModelFacts> Cluster::model() const {
  const std::lock_guard lock(model_mutex_);
  if (!model_) return unavailable("no group of workers has registered yet");
  return ModelFacts{.vocab_size = model_->vocab_size(),
                    .max_model_len = model_->max_model_len(),
                    .sliding_window = model_->sliding_window(),
                    .accepts_media = max_picture_tokens(cache_) > 0,
                    .max_picture_tokens = max_picture_tokens(cache_)};
}

EngineStatus Cluster::status() const {
  EngineStatus status;
  bool any_ready = false;
  bool any_before = false;
  double drain_time_s = 0;
  const std::shared_lock lock(groups_mutex_);
  for (const auto& [group, driver] : groups_) {
    status.groups.push_back(driver->status());
    any_ready = any_ready || driver->is_ready();
    any_before = any_before || driver->was_ready();
    drain_time_s = std::max(drain_time_s, driver->drain_time_s());
  }
  if (draining_.load()) {
    status.state = EngineState::kDraining;
  } else if (any_ready) {
    status.state = EngineState::kReady;
  } else {
    status.state = any_before ? EngineState::kDegraded : EngineState::kStarting;
  }
  status.retry_after_s = std::clamp(drain_time_s, kLeastRetryAfter_s, kMostRetryAfter_s);
  return status;
}

size_t Cluster::num_requests() const {
  const std::shared_lock lock(groups_mutex_);
  size_t num_requests = 0;
  for (const auto& [group, driver] : groups_) num_requests += driver->num_requests();
  return num_requests;
}

size_t Cluster::drain(milliseconds deadline) {
  draining_.store(true);
  parts_.events.draining();
  wait_until_idle(deadline);
  const size_t num_left = num_requests();
  if (num_left > 0) {
    const std::shared_lock lock(groups_mutex_);
    for (const auto& [group, driver] : groups_) driver->cancel_all();
  }
  wait_until_idle(kAbortDeadline);
  return num_left;
}

void Cluster::wait_until_idle(milliseconds deadline) const {
  const auto until = std::chrono::steady_clock::now() + deadline;
  while (num_requests() > 0 && std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(kDrainPoll);
  }
}

std::vector<GroupDriver*> Cluster::candidates() const {
  std::vector<std::pair<double, GroupDriver*>> ready;
  std::vector<std::pair<double, GroupDriver*>> others;
  for (const auto& [group, driver] : groups_) {
    if (driver->is_ready()) {
      ready.emplace_back(driver->load(), driver.get());
    } else if (driver->was_ready()) {
      others.emplace_back(driver->load(), driver.get());
    }
  }
  auto& chosen = ready.empty() ? others : ready;
  std::sort(chosen.begin(), chosen.end());
  std::vector<GroupDriver*> drivers;
  for (const auto& [load, driver] : chosen) drivers.push_back(driver);
  return drivers;
}

// --- Workers come and go ---

GroupDriver* Cluster::driver_of(uint32_t group) {
  const std::unique_lock lock(groups_mutex_);
  const auto found = groups_.find(group);
  if (found != groups_.end()) return found->second.get();
  if (groups_.size() >= options_.max_groups) return nullptr;
  auto driver =
      std::make_unique<GroupDriver>(GroupDriverParts{.group = group,
                                                     .options = options_,
                                                     .log = parts_.log,
                                                     .events = parts_.events,
                                                     .metrics = parts_.metrics.engine(group),
                                                     .observer = *this});
  return groups_.emplace(group, std::move(driver)).first->second.get();
}

base::Status Cluster::on_worker(asio::ip::tcp::socket& socket, wire::Registration registration) {
  if (auto status = on_group_complete(registration.model()); !status) return status;
  GroupDriver* driver = driver_of(registration.group());
  if (driver == nullptr) {
    return base::invalid_argument("group", fmt::format("more than {} groups", options_.max_groups));
  }
  const auto released = release(socket);
  if (!released) return released.error();
  driver->add_worker(*released, std::move(registration));
  return base::Status::ok();
}

base::Status Cluster::on_bulk(asio::ip::tcp::socket& socket, wire::BulkRegistration registration) {
  const std::shared_lock lock(groups_mutex_);
  const auto found = groups_.find(registration.group());
  if (found == groups_.end()) {
    return base::invalid_argument("group",
                                  fmt::format("group {} is not there", registration.group()));
  }
  const auto released = release(socket);
  if (!released) return released.error();
  found->second->add_bulk(*released, std::move(registration));
  return base::Status::ok();
}

// All groups hold one model: requests may continue on any of them with the same answer.
base::Status Cluster::on_group_complete(const wire::ModelFacts& model) {
  const std::lock_guard lock(model_mutex_);
  if (!model_) return base::Status::ok();
  if (model.fingerprint() != model_->fingerprint() || model.vocab_size() != model_->vocab_size()) {
    return base::invalid_argument(
        "model",
        "the workers hold another model than the one served; restart the coordinator to "
        "serve it");
  }
  return base::Status::ok();
}

void Cluster::on_group_ready(GroupDriver& ready, const wire::Registration& facts) {
  {
    const std::lock_guard lock(model_mutex_);
    model_ = facts.model();
    cache_ = facts.cache();
  }
  const std::shared_lock lock(groups_mutex_);
  for (const auto& [group, driver] : groups_) {
    if (driver.get() == &ready || driver->is_ready() || driver->num_requests() == 0) continue;
    // On its own thread: after what it is delivering, so that events stay in order.
    GroupDriver* lost = driver.get();
    lost->post([this, lost] { evacuate(*lost); });
  }
}

void Cluster::on_group_lost(GroupDriver& driver) {
  evacuate(driver);
}

void Cluster::evacuate(GroupDriver& driver) {
  driver.deliver_pending();  // before anything of these requests is said elsewhere
  const std::unique_lock lock(groups_mutex_);
  const bool has_refuge = std::any_of(groups_.begin(), groups_.end(), [&](const auto& entry) {
    return entry.second.get() != &driver && entry.second->is_ready();
  });
  if (!has_refuge) return;
  std::vector<MovingRequest> requests = driver.take_requests();
  for (MovingRequest& moving : requests) {
    bool placed = false;
    for (GroupDriver* other : candidates()) {
      if (other == &driver || placed) continue;
      placed = other->add_moved(moving).is_ok();
    }
    // It came from here, so it fits here.
    if (!placed) (void)driver.add_moved(moving);
  }
  if (!requests.empty()) {
    parts_.log.info("group {}: {} requests continue on other groups", driver.group(),
                    requests.size());
  }
}

}  // namespace beryl::cluster
