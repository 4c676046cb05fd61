package tenancy

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/services/tenancy/netnamespace"
	"github.com/damask-sdn/damask/services/tenancy/registry"
)

// counters are what others count into.
type counters struct{ exhausted, dropped prometheus.Counter }

// register registers the service's own metrics, and answers those that count.
func register(reg *prometheus.Registry, numbers *netnamespace.Numbers, index *registry.Index, b *bucket.Bucket) counters {
	c := counters{
		exhausted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "damask_tenancy_vnid_exhausted_total",
			Help: "Requests for a VNID that found none free.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "damask_tenancy_departed_pods_total",
			Help: "Pods dropped from the registry because their node is gone for good.",
		}),
	}
	reg.MustRegister(
		c.exhausted, c.dropped,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "damask_tenancy_vnids_allocated",
			Help: "VNIDs that namespaces have, the shared 0 and 1 not counted.",
		}, func() float64 { return float64(numbers.Taken()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "damask_tenancy_vnids_capacity",
			Help: "VNIDs that can be handed out in all.",
		}, func() float64 { return float64(numbers.Range().Size()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "damask_tenancy_pods_registered",
			Help: "Pods that are on the network, as agents reported them.",
		}, func() float64 { return float64(index.Count()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "damask_tenancy_store_conflicts_total",
			Help: "Attempts that had to be repeated because another commit came first.",
		}, func() float64 { return float64(b.Stats().Conflicts) }),
	)
	return c
}
