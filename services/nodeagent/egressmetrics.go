package nodeagent

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// guardTime bounds reading the guard's counters.
const guardTime = 2 * time.Second

// collectors are the metrics of the part.
func (e *egress) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		e.host.Metrics(),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "damask_node_egress_addresses_restored_total", Help: "Egress IPs that somebody took away, or put there, and that were put right at once.",
		}, func() float64 { return float64(e.holder.Restored()) }),
		guardMetrics{e},
	}
}

// guardMetrics answers what the guard counts, which the kernel has.
type guardMetrics struct{ *egress }

var guardDropped = prometheus.NewDesc("damask_node_egress_guarded_total",
	"Packets that were kept from leaving by a wrong address, and connections to egress IPs that were refused, since the guard's rules are there.", []string{"reason"}, nil)

// Describe names the metric.
func (guardMetrics) Describe(ch chan<- *prometheus.Desc) { ch <- guardDropped }

// Collect answers its values.
func (g guardMetrics) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), guardTime)
	defer cancel()
	packets, err := g.guard.Dropped(ctx)
	if err != nil {
		g.log.Warn("the guard's counters cannot be read", "error", err)
		return
	}
	for reason, n := range packets {
		ch <- prometheus.MustNewConstMetric(guardDropped, prometheus.CounterValue, float64(n), reason)
	}
}
