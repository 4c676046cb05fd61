package allocation

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/damask-sdn/damask/services/ipam/plan"
	"github.com/damask-sdn/damask/services/ipam/subnet"
)

// Metrics says how full the ranges are. A nil one says nothing.
type Metrics struct {
	exhausted prometheus.Counter
	capacity  *prometheus.Desc
	allocated *prometheus.Desc
	store     atomic.Pointer[Store]
}

// NewMetrics registers the metrics of a service that has one store.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		exhausted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "damask_ipam_exhausted_total",
			Help: "Registrations refused because every range was full.",
		}),
		capacity: prometheus.NewDesc("damask_ipam_subnets_capacity",
			"Subnets that a range of the cluster network has.", []string{"range"}, nil),
		allocated: prometheus.NewDesc("damask_ipam_subnets_allocated",
			"Subnets of a range of the cluster network that nodes have.", []string{"range"}, nil),
	}
	if err := errors.Join(reg.Register(m.exhausted), reg.Register(m)); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return m, nil
}

func (m *Metrics) watch(s *Store) {
	if m != nil {
		m.store.Store(s)
	}
}

func (m *Metrics) refused(err error) {
	var refusal *Refusal
	if m != nil && errors.As(err, &refusal) && refusal.Kind == Exhausted {
		m.exhausted.Inc()
	}
}

// Describe is prometheus.Collector.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	out <- m.capacity
	out <- m.allocated
}

// Collect is prometheus.Collector. It counts in the view when it is asked, so
// that nothing has to be kept up to date.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	s := m.store.Load()
	if s == nil {
		return
	}
	counts, err := s.usage()
	if err != nil {
		out <- prometheus.NewInvalidMetric(m.allocated, err)
		return
	}
	for r, n := range counts {
		out <- prometheus.MustNewConstMetric(m.capacity, prometheus.GaugeValue, float64(r.Count()), r.Prefix().String())
		out <- prometheus.MustNewConstMetric(m.allocated, prometheus.GaugeValue, float64(n), r.Prefix().String())
	}
}

// usage counts the allocated subnets of each range.
func (s *Store) usage() (map[subnet.Range]int, error) {
	snapshot := s.bucket.Snapshot()
	stored, exists, err := s.networks.Get(snapshot, plan.Name)
	if err != nil || !exists {
		return nil, err
	}
	p, err := parseStored(stored)
	if err != nil {
		return nil, err
	}
	counts := make(map[subnet.Range]int, len(p.Ranges))
	for _, r := range p.Ranges {
		counts[r] = 0
	}
	for h, err := range s.hostSubnets.Scan(snapshot) {
		if err != nil {
			return nil, err
		}
		for _, text := range h.GetSubnets() {
			prefix, err := netip.ParsePrefix(text)
			if err != nil {
				return nil, fmt.Errorf("stored host subnet %s is damaged: %w", h.GetName(), err)
			}
			if r, ok := p.RangeOf(prefix); ok {
				counts[r]++
			}
		}
	}
	return counts, nil
}
