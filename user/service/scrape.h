// What Prometheus asks for, as it is put together.

#ifndef PACKET_HEADERS_USER_SERVICE_SCRAPE_H_
#define PACKET_HEADERS_USER_SERVICE_SCRAPE_H_

#include <utility>
#include <vector>

#include "prometheus/client_metric.h"
#include "prometheus/metric_family.h"

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

  Scrape& Add(prometheus::ClientMetric::Histogram histogram) {
    prometheus::ClientMetric metric;
    metric.histogram = std::move(histogram);
    families_.back().metric.push_back(std::move(metric));
    return *this;
  }

  std::vector<prometheus::MetricFamily> Take() { return std::move(families_); }

 private:
  std::vector<prometheus::MetricFamily> families_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_SCRAPE_H_
