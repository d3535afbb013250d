#include "coordinator/metrics/registry.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "parallel/base/assert.h"

namespace beryl::metrics {
namespace {

constexpr std::string_view kOverflowLabel = "other";

std::string number_text(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return fmt::format("{}", value);
}

void append_escaped(std::string_view value, std::string& out) {
  for (char c : value) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
}

// {a="x",b="y"} with `extra` (already formatted, e.g. le="1") last; nothing where there is none.
std::string label_text(const std::vector<std::string>& names, const LabelValues& values,
                       std::string_view extra = {}) {
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) {
    text += text.empty() ? "{" : ",";
    text += names[i];
    text += "=\"";
    append_escaped(values[i], text);
    text += '"';
  }
  if (!extra.empty()) {
    text += text.empty() ? "{" : ",";
    text += extra;
  }
  if (!text.empty()) text += '}';
  return text;
}

template <typename Metric>
constexpr std::string_view type_name();
template <>
constexpr std::string_view type_name<Counter>() {
  return "counter";
}
template <>
constexpr std::string_view type_name<Gauge>() {
  return "gauge";
}
template <>
constexpr std::string_view type_name<Histogram>() {
  return "histogram";
}

void render_child(const FamilyInfo& info, const LabelValues& values, const Counter& counter,
                  std::string& out) {
  out += fmt::format("{}{} {}\n", info.name, label_text(info.label_names, values), counter.value());
}

void render_child(const FamilyInfo& info, const LabelValues& values, const Gauge& gauge,
                  std::string& out) {
  out += fmt::format("{}{} {}\n", info.name, label_text(info.label_names, values),
                     number_text(gauge.value()));
}

void render_child(const FamilyInfo& info, const LabelValues& values, const Histogram& histogram,
                  std::string& out) {
  uint64_t cumulated = 0;
  const std::vector<double>& bounds = histogram.bounds();
  for (size_t i = 0; i <= bounds.size(); ++i) {
    cumulated += histogram.bucket(i);
    const std::string le = i < bounds.size() ? number_text(bounds[i]) : "+Inf";
    out += fmt::format("{}_bucket{} {}\n", info.name,
                       label_text(info.label_names, values, "le=\"" + le + "\""), cumulated);
  }
  const std::string labels = label_text(info.label_names, values);
  out += fmt::format("{}_sum{} {}\n", info.name, labels, number_text(histogram.sum()));
  out += fmt::format("{}_count{} {}\n", info.name, labels, cumulated);
}

template <typename Metric>
std::unique_ptr<Metric> make_metric(const std::vector<double>& bounds) {
  if constexpr (std::is_same_v<Metric, Histogram>) {
    return std::make_unique<Histogram>(bounds);
  } else {
    return std::make_unique<Metric>();
  }
}

}  // namespace

Histogram::Histogram(std::vector<double> bounds)
    : bounds_(std::move(bounds)), buckets_(new std::atomic<uint64_t>[bounds_.size() + 1]) {
  BERYL_ASSERT(std::is_sorted(bounds_.begin(), bounds_.end()));
  for (size_t i = 0; i <= bounds_.size(); ++i) buckets_[i] = 0;
}

void Histogram::observe(double value) noexcept {
  const auto bound = std::lower_bound(bounds_.begin(), bounds_.end(), value);
  buckets_[bound - bounds_.begin()].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(value, std::memory_order_relaxed);
}

uint64_t Histogram::count() const noexcept {
  uint64_t count = 0;
  for (size_t i = 0; i <= bounds_.size(); ++i) count += bucket(i);
  return count;
}

uint64_t Histogram::bucket(size_t bucket_idx) const noexcept {
  return buckets_[bucket_idx].load(std::memory_order_relaxed);
}

template <typename Metric>
Family<Metric>::Family(FamilyInfo info, std::vector<double> bounds)
    : info_(std::move(info)), bounds_(std::move(bounds)) {}

template <typename Metric>
Metric& Family<Metric>::with(const LabelValues& values) {
  BERYL_ASSERT(values.size() == info_.label_names.size(), "{}: {} label values, {} names",
               info_.name, values.size(), info_.label_names.size());
  const std::lock_guard lock(mutex_);
  const auto find = [this](const LabelValues& wanted) {
    return std::find_if(children_.begin(), children_.end(),
                        [&](const Child& child) { return child.values == wanted; });
  };
  auto child = find(values);
  if (child != children_.end()) return *child->metric;
  LabelValues added = values;
  if (children_.size() >= kMaxChildrenPerFamily) {
    added.assign(values.size(), std::string(kOverflowLabel));
    child = find(added);
    if (child != children_.end()) return *child->metric;
  }
  children_.push_back({std::move(added), make_metric<Metric>(bounds_)});
  return *children_.back().metric;
}

template <typename Metric>
void Family<Metric>::render(std::string& out) const {
  out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", info_.name, info_.help, info_.name,
                     type_name<Metric>());
  const std::lock_guard lock(mutex_);
  for (const Child& child : children_) render_child(info_, child.values, *child.metric, out);
}

template <typename Metric>
Family<Metric>& Registry::add(FamilyInfo info, std::vector<double> bounds) {
  auto family = std::make_unique<Family<Metric>>(std::move(info), std::move(bounds));
  Family<Metric>& added = *family;
  const std::lock_guard lock(mutex_);
  families_.push_back(std::move(family));
  return added;
}

Family<Counter>& Registry::counter(FamilyInfo info) {
  return add<Counter>(std::move(info), {});
}

Family<Gauge>& Registry::gauge(FamilyInfo info) {
  return add<Gauge>(std::move(info), {});
}

Family<Histogram>& Registry::histogram(FamilyInfo info, std::vector<double> bounds) {
  return add<Histogram>(std::move(info), std::move(bounds));
}

void Registry::add_collector(std::function<void()> collect) {
  const std::lock_guard lock(mutex_);
  collectors_.push_back(std::move(collect));
}

std::string Registry::render() const {
  std::vector<std::function<void()>> collectors;
  {
    const std::lock_guard lock(mutex_);
    collectors = collectors_;
  }
  for (const auto& collect : collectors) collect();
  std::string out;
  const std::lock_guard lock(mutex_);
  for (const auto& family : families_) family->render(out);
  return out;
}

template class Family<Counter>;
template class Family<Gauge>;
template class Family<Histogram>;

}  // namespace beryl::metrics
