package egresshost

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics is what a Host counts.
type Metrics struct {
	wanted, held prometheus.Gauge
	closed       prometheus.Gauge
	closings     prometheus.Counter
	repairs      prometheus.Counter
	changes      prometheus.Histogram
}

func newMetrics() *Metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "damask_node_egress_" + name, Help: help})
	}
	return &Metrics{
		wanted: gauge("addresses_wanted", "Egress IPs that this node is to hold."),
		held:   gauge("addresses_held", "Egress IPs that this node holds, translates to, and has flows for."),
		closed: gauge("closed", "1 while this node keeps its egress IPs closed, because it was cut off and nobody has said since that it counts as alive."),
		closings: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "damask_node_egress_closings_total", Help: "How often this node has closed its egress IPs by itself, because most of its observers did not answer.",
		}),
		repairs: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "damask_node_egress_repairs_total", Help: "Differences of egress IPs that audits repaired: rules, addresses, the guard.",
		}),
		changes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "damask_node_egress_change_seconds", Help: "From when a change of this node's egress IPs is taken up until the switch has it.",
			Buckets: []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10},
		}),
	}
}

// Describe names the metrics.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect answers their values.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{m.wanted, m.held, m.closed, m.closings, m.repairs, m.changes} {
		c.Collect(ch)
	}
}

func (m *Metrics) set(wanted, held int) {
	m.wanted.Set(float64(wanted))
	m.held.Set(float64(held))
}

func (m *Metrics) stands(as Standing) {
	if as != Closed {
		m.closed.Set(0)
		return
	}
	m.closed.Set(1)
	m.closings.Inc()
}

func (m *Metrics) repaired(n int) { m.repairs.Add(float64(n)) }

func (m *Metrics) changed(took time.Duration) { m.changes.Observe(took.Seconds()) }
