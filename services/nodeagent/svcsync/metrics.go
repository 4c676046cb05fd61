package svcsync

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// Metrics is what a Syncer counts, for Prometheus.
type Metrics struct {
	services, ports, backends, waiting   prometheus.Gauge
	lag, applyTime, compareTime          prometheus.Histogram
	comparisons, writes, repairs, failed prometheus.Counter
}

// newMetrics makes the metrics. Nothing is registered.
func newMetrics() *Metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "damask_node_" + name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "damask_node_" + name, Help: help})
	}
	// From a millisecond, which is an nftables change, to the two minutes of a full load
	// with iptables.
	buckets := prometheus.ExponentialBuckets(0.001, 2, 18)
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: "damask_node_" + name, Help: help, Buckets: buckets})
	}
	return &Metrics{
		services:    gauge("services", "Services that this node knows."),
		ports:       gauge("service_ports", "Service ports that the engine has."),
		backends:    gauge("service_backends", "Backends in the lists of the engine's service ports."),
		waiting:     gauge("services_waiting", "Services whose last change is not in force yet."),
		lag:         histogram("service_lag_seconds", "From when the node heard of a service's change until it was in force."),
		applyTime:   histogram("service_apply_seconds", "Time of one change in the engine."),
		compareTime: histogram("service_compare_seconds", "Time of one comparison of all services with the kernel."),
		comparisons: counter("service_comparisons_total", "Comparisons of all services with the kernel."),
		writes:      counter("service_writes_total", "Service ports sent to the engine in changes, and rules or elements in comparisons."),
		repairs:     counter("service_repairs_total", "Rules or elements that were not as they should have been, and were repaired."),
		failed:      counter("service_failures_total", "Changes and comparisons that the engine did not take."),
	}
}

func (m *Metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.services, m.ports, m.backends, m.waiting, m.lag, m.applyTime, m.compareTime, m.comparisons, m.writes, m.repairs, m.failed,
	}
}

// Describe names the metrics.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.collectors() {
		c.Describe(ch)
	}
}

// Collect answers their values.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.collectors() {
		c.Collect(ch)
	}
}

// applied counts a change of so many service ports.
func (m *Metrics) applied(took time.Duration, ports int) {
	m.applyTime.Observe(took.Seconds())
	m.writes.Add(float64(ports))
}

// compared counts a comparison.
func (m *Metrics) compared(took time.Duration, changes proxy.Changes) {
	m.compareTime.Observe(took.Seconds())
	m.comparisons.Inc()
	m.writes.Add(float64(changes.Added + changes.Removed))
}

// repaired counts what a comparison found to be wrong.
func (m *Metrics) repaired(changes proxy.Changes) {
	m.repairs.Add(float64(changes.Added + changes.Removed))
}

// size notes how much there is.
func (m *Metrics) size(services, ports, backends, waiting int) {
	m.services.Set(float64(services))
	m.ports.Set(float64(ports))
	m.backends.Set(float64(backends))
	m.waiting.Set(float64(waiting))
}
