#include "coordinator/http/connection_budget.h"

namespace beryl::http {
namespace {

// One host can have a whole IPv6 /64, so that counts as one address.
std::string budget_key(const boost::asio::ip::address& address) {
  if (address.is_v4()) return address.to_string();
  const auto bytes = address.to_v6().to_bytes();
  if (address.to_v6().is_v4_mapped()) return {bytes.begin(), bytes.end()};
  return {bytes.begin(), bytes.begin() + 8};
}

}  // namespace

ConnectionBudget::Slot::~Slot() {
  if (budget_ != nullptr) budget_->close(address_);
}

ConnectionBudget::Slot ConnectionBudget::open(const boost::asio::ip::address& address) {
  std::string key = budget_key(address);
  const std::lock_guard lock(mutex_);
  if (num_connections_ >= limits_.max_connections) {
    metrics_.limits_reached.with({"connections"}).add();
    return {};
  }
  size_t& of_address = connections_of_[key];
  if (of_address >= limits_.max_connections_per_address) {
    metrics_.limits_reached.with({"connections_per_address"}).add();
    return {};
  }
  ++of_address;
  metrics_.connections.set(static_cast<double>(++num_connections_));
  return {*this, std::move(key)};
}

void ConnectionBudget::close(const std::string& address) {
  const std::lock_guard lock(mutex_);
  const auto entry = connections_of_.find(address);
  if (--entry->second == 0) connections_of_.erase(entry);
  metrics_.connections.set(static_cast<double>(--num_connections_));
}

ConnectionBudget::Body::~Body() {
  budget_.body_bytes_ -= held_bytes_;
  budget_.metrics_.body_bytes_in_flight.add(-static_cast<double>(held_bytes_));
}

bool ConnectionBudget::Body::hold(size_t bytes) {
  if (bytes <= held_bytes_) return true;
  const size_t more = bytes - held_bytes_;
  if (budget_.body_bytes_.fetch_add(more) + more > budget_.limits_.max_body_bytes_in_flight) {
    budget_.body_bytes_ -= more;
    budget_.metrics_.limits_reached.with({"body_bytes_in_flight"}).add();
    return false;
  }
  held_bytes_ = bytes;
  budget_.metrics_.body_bytes_in_flight.add(static_cast<double>(more));
  return true;
}

}  // namespace beryl::http
