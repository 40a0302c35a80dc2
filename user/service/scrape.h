// What Prometheus asks for, as it is put together.

#ifndef PACKET_HEADERS_USER_SERVICE_SCRAPE_H_
#define PACKET_HEADERS_USER_SERVICE_SCRAPE_H_

#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "prometheus/client_metric.h"
#include "prometheus/metric_family.h"
#include "user/base/histogram.h"

namespace packet_headers {

using Labels = std::vector<prometheus::ClientMetric::Label>;

// The families of one scrape.
class Scrape {
 public:
  // Begins a family; Add() goes to the last one.
  Scrape& Family(const char* name, prometheus::MetricType type, const char* help) {
    families_.push_back({name, help, type, {}});
    return *this;
  }

  Scrape& Add(double value, Labels labels = {}) {
    prometheus::ClientMetric metric;
    metric.label = std::move(labels);
    if (families_.back().type == prometheus::MetricType::Counter) {
      metric.counter.value = value;
    } else {
      metric.gauge.value = value;
    }
    families_.back().metric.push_back(std::move(metric));
    return *this;
  }

  // The sum of some with the same bounds, at least one, in which `unit` is 1.
  Scrape& Add(absl::Span<const Histogram* const> histograms, double unit) {
    prometheus::ClientMetric metric;
    prometheus::ClientMetric::Histogram& all = metric.histogram;
    const absl::Span<const int64_t> bounds = histograms.front()->bounds();
    for (size_t bucket = 0; bucket <= bounds.size(); ++bucket) {
      for (const Histogram* histogram : histograms) all.sample_count += histogram->count(bucket);
      // The last one has no bound: it is the count of all.
      if (bucket == bounds.size()) break;
      all.bucket.push_back({all.sample_count, static_cast<double>(bounds[bucket]) / unit});
    }
    for (const Histogram* histogram : histograms) {
      all.sample_sum += static_cast<double>(histogram->sum()) / unit;
    }
    families_.back().metric.push_back(std::move(metric));
    return *this;
  }

  std::vector<prometheus::MetricFamily> Take() { return std::move(families_); }

 private:
  std::vector<prometheus::MetricFamily> families_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_SCRAPE_H_
