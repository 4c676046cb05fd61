package egress

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/services/egress/facts"
)

// register registers the service's own metrics, and answers the one that says
// whether this replica decides.
func register(reg *prometheus.Registry, book *facts.Book, b *bucket.Bucket) (deciding prometheus.Gauge) {
	deciding = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "damask_egress_deciding",
		Help: "1 on the replica that decides, 0 on the others.",
	})
	gauge := func(name, help string, read func(facts.Counts) int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(read(book.Counts())) })
	}
	reg.MustRegister(
		deciding,
		gauge("damask_egress_addresses_wanted", "Egress IPs that namespaces want.", func(c facts.Counts) int { return c.Wanted }),
		gauge("damask_egress_addresses_hosted", "Egress IPs that a node hosts.", func(c facts.Counts) int { return c.Hosted }),
		gauge("damask_egress_nodes_down", "Nodes that may host egress IPs and do not answer.", func(c facts.Counts) int { return c.Down }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "damask_egress_store_conflicts_total",
			Help: "Attempts that had to be repeated because another commit came first.",
		}, func() float64 { return float64(b.Stats().Conflicts) }),
	)
	return deciding
}
