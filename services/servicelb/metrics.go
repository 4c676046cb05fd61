package servicelb

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/services/servicelb/catalog"
	"github.com/damask-sdn/damask/services/servicelb/needs"
)

// register registers the service's own metrics, and answers the one that counts
// requests for which nothing was free.
func register(reg *prometheus.Registry, numbers *catalog.Numbers, index *catalog.Index, needed *needs.Needed, b *bucket.Bucket) (exhausted prometheus.Counter) {
	exhausted = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "damask_servicelb_exhausted_total",
		Help: "Requests for an address or a port that found none free.",
	})
	reg.MustRegister(
		exhausted,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "damask_servicelb_endpointslices",
			Help: "EndpointSlices that are stored.",
		}, func() float64 { return float64(index.Count()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "damask_servicelb_need_pods",
			Help: "Idled services that have traffic and wait for pods.",
		}, func() float64 { return float64(needed.Count()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "damask_servicelb_store_conflicts_total",
			Help: "Attempts that had to be repeated because another commit came first.",
		}, func() float64 { return float64(b.Stats().Conflicts) }),
	)
	for _, kind := range []string{"clusterip", "nodeport", "loadbalancerip"} {
		labels := prometheus.Labels{"kind": kind}
		reg.MustRegister(
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "damask_servicelb_allocated", ConstLabels: labels,
				Help: "Addresses and ports that services have.",
			}, func() float64 { taken, _ := numbers.Counts(kind); return float64(taken) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "damask_servicelb_capacity", ConstLabels: labels,
				Help: "Addresses and ports that can be handed out in all.",
			}, func() float64 { _, size := numbers.Counts(kind); return float64(size) }),
		)
	}
	return exhausted
}
