// Prometheus metrics: counters, gauges and histograms with labels, and their text form. A Registry
// is an object made in main; metric objects live as long as it does, so updaters keep references.
// Updates are lock-free; only with() of a new label set and render() take a lock.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace beryl::metrics {

// Label sets of one family beyond this share one child, so a caller cannot fill the memory.
constexpr size_t kMaxChildrenPerFamily = 1000;

class Counter {
 public:
  void add(uint64_t count = 1) noexcept { value_.fetch_add(count, std::memory_order_relaxed); }
  uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

class Gauge {
 public:
  void set(double value) noexcept { value_.store(value, std::memory_order_relaxed); }
  void add(double delta) noexcept { value_.fetch_add(delta, std::memory_order_relaxed); }
  double value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

class Histogram {
 public:
  // `bounds` are upper limits in ascending order; a bucket for the rest is added.
  explicit Histogram(std::vector<double> bounds);

  void observe(double value) noexcept;
  uint64_t count() const noexcept;
  double sum() const noexcept { return sum_.load(std::memory_order_relaxed); }
  const std::vector<double>& bounds() const noexcept { return bounds_; }
  // Observations in bucket `bucket_idx` alone (not cumulated); the last one is the rest.
  uint64_t bucket(size_t bucket_idx) const noexcept;

 private:
  std::vector<double> bounds_;
  std::unique_ptr<std::atomic<uint64_t>[]> buckets_;  // [bounds_.size() + 1]
  std::atomic<double> sum_{0};
};

using LabelValues = std::vector<std::string>;

struct FamilyInfo {
  std::string name;
  std::string help;
  std::vector<std::string> label_names;
};

class AnyFamily {
 public:
  virtual ~AnyFamily() = default;
  virtual void render(std::string& out) const = 0;
};

// All metrics of one name; one child per set of label values.
template <typename Metric>
class Family final : public AnyFamily {
 public:
  Family(FamilyInfo info, std::vector<double> bounds);

  // As many values as label names. The reference stays valid; keep it where updates are frequent.
  Metric& with(const LabelValues& values);
  void render(std::string& out) const override;

 private:
  struct Child {
    LabelValues values;
    std::unique_ptr<Metric> metric;
  };

  FamilyInfo info_;
  std::vector<double> bounds_;  // of histograms
  mutable std::mutex mutex_;
  std::vector<Child> children_;
};

class Registry {
 public:
  Family<Counter>& counter(FamilyInfo info);
  Family<Gauge>& gauge(FamilyInfo info);
  Family<Histogram>& histogram(FamilyInfo info, std::vector<double> bounds);

  // Runs before each render, to set gauges that are pulled (memory, queue lengths). What it
  // captures must outlive the registry.
  void add_collector(std::function<void()> collect);

  // Prometheus text format 0.0.4.
  std::string render() const;

 private:
  template <typename Metric>
  Family<Metric>& add(FamilyInfo info, std::vector<double> bounds);

  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<AnyFamily>> families_;
  std::vector<std::function<void()>> collectors_;
};

}  // namespace beryl::metrics
