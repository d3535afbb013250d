// Cluster: the Engine over real groups of workers. Routes new requests by load, moves the requests
// of a lost group to a healthy one, and tells the API how things stand.
#pragma once

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <thread>
#include <vector>

#include "coordinator/cluster/cluster_options.h"
#include "coordinator/cluster/engine.h"
#include "coordinator/cluster/event_log.h"
#include "coordinator/cluster/group_driver.h"
#include "coordinator/cluster/registrar.h"
#include "coordinator/metrics/server_metrics.h"
#include "parallel/base/log.h"
#include "parallel/wire/secret.h"

namespace beryl::cluster {

struct ClusterParts {
  const wire::Secret& secret;
  base::Logger& log;
  EventLog& events;
  metrics::ServerMetrics& metrics;
};

class Cluster final : public Engine, private GroupObserver {
 public:
  // Listens at once. All parts must outlive it. Throws std::runtime_error when it cannot listen.
  Cluster(const ClusterOptions& options, const ClusterParts& parts);
  ~Cluster() override;
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  base::Expected<scheduler::RequestId> submit(GenerationRequest request, EventSink sink) override;
  void cancel(scheduler::RequestId request) override;
  base::Expected<ModelFacts> model() const override;
  EngineStatus status() const override;

  uint16_t worker_port() const { return registrar_->port(); }

  // No new requests from here on; waits until the others have ended, at most until `deadline`.
  // Returns how many were left; those end with kAborted.
  size_t drain(std::chrono::milliseconds deadline);
  // Goodbye to all workers.
  void shut_down();

 private:
  base::Status on_worker(boost::asio::ip::tcp::socket& socket, wire::Registration registration);
  base::Status on_bulk(boost::asio::ip::tcp::socket& socket, wire::BulkRegistration registration);
  base::Status on_group_complete(const wire::ModelFacts& model) override;
  void on_group_ready(GroupDriver& driver, const wire::Registration& facts) override;
  void on_group_lost(GroupDriver& driver) override;

  GroupDriver* driver_of(uint32_t group);
  // Those that may take a request now, best first: ready ones, or else all that ever were.
  std::vector<GroupDriver*> candidates() const;
  // On the driver's thread.
  void evacuate(GroupDriver& driver);
  size_t num_requests() const;
  void wait_until_idle(std::chrono::milliseconds deadline) const;

  const ClusterOptions options_;
  ClusterParts parts_;
  std::atomic<uint64_t> last_request_{0};
  std::atomic<bool> draining_{false};

  // Guards groups_ (it only grows) and, held exclusively, requests on their way between groups.
  mutable std::shared_mutex groups_mutex_;
  std::map<uint32_t, std::unique_ptr<GroupDriver>> groups_;
  mutable std::mutex model_mutex_;
  std::optional<wire::ModelFacts> model_;
  wire::CacheFacts cache_;  // of the group that was ready last

  boost::asio::io_context io_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  std::unique_ptr<Registrar> registrar_;
  std::thread thread_;
};

}  // namespace beryl::cluster
