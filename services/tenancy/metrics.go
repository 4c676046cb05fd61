package tenancy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/services/tenancy/netnamespace"
	"github.com/damask-sdn/damask/services/tenancy/registry"
	"github.com/damask-sdn/damask/services/tenancy/resolution"
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

// newMeter registers how resolving policies goes.
func newMeter(reg *prometheus.Registry) resolution.Meter {
	leading := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "damask_tenancy_resolving",
		Help: "1 on the replica that resolves policies, 0 on the others.",
	})
	rounds := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "damask_tenancy_resolution_seconds",
		Help:    "From the first look at changes to what follows from them being stored.",
		Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
	})
	writes := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "damask_tenancy_resolved_writes_total",
		Help: "Keys that were written or deleted because policies, pods or namespaces changed.",
	})
	reg.MustRegister(leading, rounds, writes)
	return resolution.Meter{
		Leading: func(yes bool) {
			leading.Set(0)
			if yes {
				leading.Set(1)
			}
		},
		Round: func(took time.Duration, n int) {
			rounds.Observe(took.Seconds())
			writes.Add(float64(n))
		},
	}
}
